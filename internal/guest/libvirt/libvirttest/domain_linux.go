package libvirttest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	lv "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

// Disk is a disk of a domain for a test.
type Disk struct {
	Target, Path, Format string
}

// Domain is a domain for a test.
type Domain struct {
	t     testing.TB
	l     *lv.Libvirt
	d     *Daemon
	Dom   lv.Domain
	Name  string
	XML   string
	Disks []Disk
}

// Create makes an image file.
func Create(t testing.TB, path, format string, size int64) {
	t.Helper()
	Run(t, "qemu-img", "create", "-q", "-f", format, path, fmt.Sprint(size))
}

// Run runs a program that must succeed, and returns its output.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Text is the definition of a domain; more goes between its devices, and os into
// its element os.
func Text(name, os, more string, disks ...Disk) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<domain type='qemu'><name>%s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type>%s</os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
`, name, os)
	for _, d := range disks {
		fmt.Fprintf(&b, "<disk type='file' device='disk'><driver name='qemu' type='%s'/><source file='%s'/><target dev='%s' bus='virtio'/></disk>\n",
			d.Format, d.Path, d.Target)
	}
	b.WriteString(more + "</devices></domain>")
	return b.String()
}

// Connect opens a connection of the test's own.
func (d *Daemon) Connect(t testing.TB) *lv.Libvirt {
	t.Helper()
	l := lv.NewWithDialer(dialers.NewLocal(dialers.WithSocket(d.socket())))
	if err := l.ConnectToURI("qemu:///system"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Disconnect() }) // the daemon may be gone
	return l
}

// Define makes a persistent domain, shut down, that goes with the test.
func (d *Daemon) Define(t testing.TB, text string, disks ...Disk) *Domain {
	t.Helper()
	m := &Domain{t: t, l: d.Connect(t), d: d, XML: text, Disks: disks}
	var err error
	if m.Dom, err = m.l.DomainDefineXML(text); err != nil {
		t.Fatal(err)
	}
	m.clean()
	return m
}

// Transient starts a domain that is gone when it ends.
func (d *Daemon) Transient(t testing.TB, text string, disks ...Disk) *Domain {
	t.Helper()
	m := &Domain{t: t, l: d.Connect(t), d: d, XML: text, Disks: disks}
	m.Recreate()
	m.clean()
	return m
}

// Recreate starts a transient domain again.
func (m *Domain) Recreate() {
	m.t.Helper()
	var err error
	if m.Dom, err = m.l.DomainCreateXML(m.XML, 0); err != nil {
		m.t.Fatal(err)
	}
}

// Attach takes a domain that somebody else defined, to go with the test.
func (d *Daemon) Attach(t testing.TB, name string, disks ...Disk) *Domain {
	t.Helper()
	m := &Domain{t: t, l: d.Connect(t), d: d, Disks: disks}
	var err error
	if m.Dom, err = m.l.DomainLookupByName(name); err != nil {
		t.Fatal(err)
	}
	m.clean()
	return m
}

func (m *Domain) clean() {
	m.Name = m.Dom.Name
	m.t.Cleanup(func() {
		_ = m.l.DomainDestroy(m.Dom)
		_ = m.l.DomainUndefineFlags(m.Dom, lv.DomainUndefineNvram|lv.DomainUndefineCheckpointsMetadata)
	})
}

// Start starts a persistent domain.
func (m *Domain) Start() {
	m.t.Helper()
	if err := m.l.DomainCreate(m.Dom); err != nil {
		m.t.Fatal(err)
	}
}

// Stop pulls the plug, but lets QEMU close its images.
func (m *Domain) Stop() {
	m.t.Helper()
	if err := m.l.DomainDestroyFlags(m.Dom, lv.DomainDestroyGraceful); err != nil {
		m.t.Fatal(err)
	}
	m.Wait(func() bool { return !m.Active() })
}

// Crash kills QEMU.
func (m *Domain) Crash() {
	m.t.Helper()
	Run(m.t, "bash", "-c", "kill -9 $(cat "+filepath.Join(m.d.Dir, "run", "qemu", m.Name+".pid")+")")
	m.Wait(func() bool { return !m.Active() })
}

// Active reports whether the domain runs.
func (m *Domain) Active() bool {
	is, err := m.l.DomainIsActive(m.Dom)
	return err == nil && is != 0
}

// Wait waits for something to be so.
func (m *Domain) Wait(is func() bool) {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("domain %s: it does not happen", m.Name)
		}
	}
}

// IO runs a command of qemu-io on the n-th disk, in the running guest.
func (m *Domain) IO(n int, format string, args ...any) {
	m.t.Helper()
	cmd := fmt.Sprintf("qemu-io -d /machine/peripheral/virtio-disk%d/virtio-backend \"%s\"", n, fmt.Sprintf(format, args...))
	out, err := m.l.QEMUDomainMonitorCommand(m.Dom, cmd, 1)
	if err != nil || strings.Contains(out, "rror") || strings.Contains(out, "failed") {
		m.t.Fatalf("%s: %q, %v", cmd, out, err)
	}
}

// Checkpoints names what libvirt knows of.
func (m *Domain) Checkpoints() (names []string) {
	m.t.Helper()
	all, _, err := m.l.DomainListAllCheckpoints(m.Dom, 1, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// HasJob reports whether a backup job is there.
func (m *Domain) HasJob() bool {
	_, err := m.l.DomainBackupGetXMLDesc(m.Dom, 0)
	return err == nil
}

// Libvirt is the test's own connection.
func (m *Domain) Libvirt() *lv.Libvirt { return m.l }
