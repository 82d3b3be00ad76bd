package domxml

import (
	"strconv"
	"time"

	"github.com/beevik/etree"
)

// SetName changes the name; a title stays.
func (d *Domain) SetName(name string) { set(d.root, "name", name) }

// SetUUID gives the domain another identity. One in the machine's description
// (SMBIOS), which must be the same, changes with it.
func (d *Domain) SetUUID(uuid string) {
	set(d.root, "uuid", uuid)
	sys := child(child(d.root, "sysinfo"), "system")
	if sys == nil {
		return
	}
	for _, e := range sys.SelectElements("entry") {
		if e.SelectAttrValue("name", "") == "uuid" {
			e.SetText(uuid)
		}
	}
}

// DropMACs lets libvirt choose new addresses for all network devices.
func (d *Domain) DropMACs() {
	devices := child(d.root, "devices")
	if devices == nil {
		return
	}
	for _, e := range devices.SelectElements("interface") {
		drop(e, "mac")
	}
}

// SetNVRAM says where the firmware's variables lie.
func (d *Domain) SetNVRAM(path string) {
	nv := child(child(d.root, "os"), "nvram")
	if nv == nil {
		return
	}
	if src := child(nv, "source"); src != nil {
		src.CreateAttr("file", path)
		return
	}
	nv.SetText(path)
}

// Kinds of files that a domain starts from.
const (
	Loader = "loader"
	Kernel = "kernel"
	Initrd = "initrd"
)

// SetBoot says where the firmware, the kernel or its initrd lies, if the domain
// has one.
func (d *Domain) SetBoot(kind, path string) {
	if e := child(child(d.root, "os"), kind); e != nil {
		e.SetText(path)
	}
}

// Place is where a disk lies.
type Place struct {
	Path   string
	Block  bool // a block device
	Format string
	// Backing is behind the file while it is filled; nil: nothing.
	Backing *Export
}

// Export is an NBD export of this host.
type Export struct {
	Socket, Name string
	// Patience is how long the guest waits when the export is gone, before it is
	// stopped; whole seconds.
	Patience time.Duration
}

// SetDisk puts a disk elsewhere and reports whether there is one of that name.
// What belonged to the old source goes: its chain, mirrors, encryption.
func (d *Domain) SetDisk(target string, to Place) bool {
	e := d.disk(target)
	if e == nil {
		return false
	}
	for _, name := range []string{"source", "backingStore", "mirror", "encryption", "auth"} {
		drop(e, name)
	}
	kind, name := "file", "file"
	if to.Block {
		kind, name = "block", "dev"
	}
	e.CreateAttr("type", kind)
	driver := child(e, "driver")
	if driver == nil {
		driver = e.CreateElement("driver")
		driver.CreateAttr("name", "qemu")
	}
	driver.CreateAttr("type", to.Format)
	e.CreateElement("source").CreateAttr(name, to.Path)
	if to.Backing != nil {
		backing(e, to.Backing)
		// Whatever goes wrong with the export stops the guest, which can be
		// resumed, instead of failing its reads.
		driver.CreateAttr("error_policy", "stop")
		driver.CreateAttr("rerror_policy", "stop")
	}
	return true
}

func backing(disk *etree.Element, x *Export) {
	b := disk.CreateElement("backingStore")
	b.CreateAttr("type", "network")
	b.CreateElement("format").CreateAttr("type", "raw")
	src := b.CreateElement("source")
	src.CreateAttr("protocol", "nbd")
	src.CreateAttr("name", x.Name)
	host := src.CreateElement("host")
	host.CreateAttr("transport", "unix")
	host.CreateAttr("socket", x.Socket)
	src.CreateElement("reconnect").CreateAttr("delay", strconv.FormatInt(int64(x.Patience/time.Second), 10))
	b.CreateElement("backingStore") // nothing behind it
}

// Backed reports whether a disk of a running domain has something behind it.
func (d *Domain) Backed(target string) bool {
	b := child(d.disk(target), "backingStore")
	return b != nil && (b.SelectAttr("type") != nil || child(b, "source") != nil)
}

// set changes the text of a child, which is made if it is missing.
func set(e *etree.Element, name, text string) {
	c := child(e, name)
	if c == nil {
		c = e.CreateElement(name)
	}
	c.SetText(text)
}

func drop(e *etree.Element, name string) {
	for _, c := range e.SelectElements(name) {
		e.RemoveChild(c)
	}
}
