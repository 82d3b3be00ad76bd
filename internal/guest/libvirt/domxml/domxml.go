// Package domxml reads definitions of libvirt's domains and changes what a
// restore has to change in them: name and identity, and where disks and
// firmware variables lie. Everything else stays as it is, also what this
// package does not know: a definition is a tree of elements here, not a
// structure.
//
// # What is read
//
//	/domain/name, /domain/uuid
//	/domain/os/loader, /domain/os/nvram
//	/domain/devices/disk               see [Disk]
//	/domain/devices/tpm                with <backend type='emulator'>
//	/domain/devices/channel            that of the guest agent
//	/domain/seclabel[@model='dac']     the user of a running domain
//
// # Errors
//
// Parse returns an error wrapping [ErrFormat] for what is no definition of a
// domain. It does no I/O.
//
// # Source
//
// libvirt: docs/formatdomain.rst, src/conf/domain_conf.c.
package domxml

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/beevik/etree"
)

// ErrFormat is wrapped by errors about text that is no domain.
var ErrFormat = errors.New("not a definition of a libvirt domain")

// maxText bounds a definition in bytes; libvirt itself allows 4 MiB.
const maxText = 4 << 20

// Domain is a definition.
type Domain struct {
	doc  *etree.Document
	root *etree.Element
}

// Parse reads a definition. It has a name.
func Parse(text string) (*Domain, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: %d bytes", ErrFormat, len(text))
	}
	doc := etree.NewDocument()
	doc.WriteSettings.AttrSingleQuote = true // as libvirt writes
	if err := doc.ReadFromString(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	d := &Domain{doc, doc.Root()}
	if d.root == nil || d.root.FullTag() != "domain" || d.Name() == "" {
		return nil, fmt.Errorf("%w: no element domain with a name", ErrFormat)
	}
	return d, nil
}

// String is the definition as text.
func (d *Domain) String() string {
	s, err := d.doc.WriteToString()
	if err != nil { // a buffer takes everything
		panic("domxml: " + err.Error())
	}
	return s
}

// Name is what the domain is called.
func (d *Domain) Name() string { return strings.TrimSpace(text(d.root, "name")) }

// UUID is the domain's identity; empty when libvirt is to choose one.
func (d *Domain) UUID() string { return strings.TrimSpace(text(d.root, "uuid")) }

// Firmware is what a domain starts from besides its disks.
type Firmware struct {
	Loader string // path of the firmware, or ""
	NVRAM  string // path of its variables, or ""
	Kernel string // path of a kernel that is started directly, or ""
	Initrd string
}

// Firmware says where the domain's firmware lies.
func (d *Domain) Firmware() Firmware {
	os := child(d.root, "os")
	f := Firmware{Loader: text(os, "loader"), NVRAM: text(os, "nvram"), Kernel: text(os, "kernel"), Initrd: text(os, "initrd")}
	if src := child(child(os, "nvram"), "source"); src != nil { // the long form
		f.NVRAM = src.SelectAttrValue("file", "")
	}
	for _, p := range []*string{&f.Loader, &f.NVRAM, &f.Kernel, &f.Initrd} {
		*p = strings.TrimSpace(*p)
	}
	return f
}

// TPMVersion is that of an emulated TPM, as the names of its directory has it:
// "1.2" or "2.0"; empty when there is none.
func (d *Domain) TPMVersion() string {
	backend := child(child(child(d.root, "devices"), "tpm"), "backend")
	if backend == nil || backend.SelectAttrValue("type", "") != "emulator" {
		return ""
	}
	return backend.SelectAttrValue("version", "2.0")
}

// AgentConnected reports whether a guest agent answers in a running domain.
func (d *Domain) AgentConnected() bool {
	devices := child(d.root, "devices")
	if devices == nil {
		return false
	}
	for _, c := range devices.SelectElements("channel") {
		t := child(c, "target")
		if t != nil && t.SelectAttrValue("name", "") == "org.qemu.guest_agent.0" && t.SelectAttrValue("state", "") == "connected" {
			return true
		}
	}
	return false
}

// User is the user and group that QEMU runs as, which only a running domain
// tells.
func (d *Domain) User() (uid, gid int, ok bool) {
	for _, l := range d.root.SelectElements("seclabel") {
		if l.SelectAttrValue("model", "") == "dac" {
			return ParseOwner(text(l, "label"))
		}
	}
	return 0, 0, false
}

// ParseOwner reads a user and a group as libvirt writes them, "+107:+107".
func ParseOwner(s string) (uid, gid int, ok bool) {
	u, g, found := strings.Cut(strings.TrimSpace(s), ":")
	if !found {
		return 0, 0, false
	}
	uid, uerr := strconv.Atoi(strings.TrimPrefix(u, "+"))
	gid, gerr := strconv.Atoi(strings.TrimPrefix(g, "+"))
	return uid, gid, uerr == nil && gerr == nil && uid >= 0 && gid >= 0
}

// child is the first element of that name in e, which may be nil.
func child(e *etree.Element, name string) *etree.Element {
	if e == nil {
		return nil
	}
	return e.SelectElement(name)
}

// text is that of a child, "" when there is none.
func text(e *etree.Element, name string) string {
	if c := child(e, name); c != nil {
		return c.Text()
	}
	return ""
}
