package domxml_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
)

// sample has what libvirt writes for a domain of today, and something that this
// package does not know.
const sample = `<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <uuid>0b1c2d3e-0000-4000-8000-000000000001</uuid>
  <title>the web &amp; more</title>
  <sysinfo type='smbios'><system><entry name='uuid'>0b1c2d3e-0000-4000-8000-000000000001</entry></system></sysinfo>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>
  </os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='/images/web.qcow2' index='1'/>
      <backingStore type='file'><format type='qcow2'/><source file='/images/base.qcow2'/><backingStore/></backingStore>
      <target dev='vda' bus='virtio'/>
      <boot order='1'/>
    </disk>
    <disk type='block' device='lun'><driver name='qemu' type='raw'/><source dev='/dev/vg/web'/><target dev='sda' bus='scsi'/></disk>
    <disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='rbd' name='pool/web'><encryption format='luks'/></source><target dev='vdb' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='hda' bus='ide'/><readonly/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/tmp/swap'/><target dev='vdc' bus='virtio'/><transient/></disk>
    <interface type='network'><mac address='52:54:00:00:00:01'/><source network='default'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
  <seclabel type='dynamic' model='apparmor' relabel='yes'><label>x</label></seclabel>
  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+109</label></seclabel>
  <qemu:commandline><qemu:arg value='-newarg'/></qemu:commandline>
</domain>
`

func parse(t *testing.T, text string) *domxml.Domain {
	t.Helper()
	d, err := domxml.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDefinitionIsReadAsLibvirtMeansIt(t *testing.T) {
	d := parse(t, sample)
	if d.Name() != "web" || d.UUID() != "0b1c2d3e-0000-4000-8000-000000000001" || d.TPMVersion() != "2.0" || !d.AgentConnected() {
		t.Errorf("%q %q %q %v", d.Name(), d.UUID(), d.TPMVersion(), d.AgentConnected())
	}
	if uid, gid, ok := d.User(); uid != 64055 || gid != 109 || !ok {
		t.Errorf("user %d:%d, %v", uid, gid, ok)
	}
	if diff := cmp.Diff(domxml.Firmware{Loader: "/usr/share/OVMF/OVMF_CODE.fd", NVRAM: "/var/lib/libvirt/qemu/nvram/web_VARS.fd"}, d.Firmware()); diff != "" {
		t.Error(diff)
	}
	want := []domxml.Disk{
		{Target: "vda", Device: "disk", Kind: "file", Path: "/images/web.qcow2", Format: "qcow2", Bus: "virtio"},
		{Target: "sda", Device: "lun", Kind: "block", Path: "/dev/vg/web", Format: "raw", Bus: "scsi"},
		{Target: "vdb", Device: "disk", Kind: "network", Format: "raw", Bus: "virtio", Encrypted: true},
		{Target: "hda", Device: "cdrom", Kind: "file", Format: "raw", Bus: "ide", ReadOnly: true, Empty: true},
		{Target: "vdc", Device: "disk", Kind: "file", Path: "/tmp/swap", Format: "raw", Bus: "virtio", Transient: true},
	}
	if diff := cmp.Diff(want, d.Disks()); diff != "" {
		t.Error(diff)
	}
	for i, holds := range []bool{true, true, true, false, false} {
		if want[i].Holds() != holds {
			t.Errorf("%s holds something: %v", want[i].Target, !holds)
		}
	}
	if !d.Backed("vda") || d.Backed("sda") || d.Backed("none") {
		t.Error("what is behind the disks is not what it is")
	}
}

func TestWhatIsNotChangedStaysAsItIs(t *testing.T) {
	if got := parse(t, sample).String(); got != sample {
		t.Errorf("the definition becomes\n%s", cmp.Diff(sample, got))
	}
}

func TestDomainBesideTheOldOneHasNothingOfItsIdentity(t *testing.T) {
	d := parse(t, sample)
	d.SetName("web2")
	d.SetUUID("0b1c2d3e-0000-4000-8000-000000000002")
	d.DropMACs()
	d.SetNVRAM("/new/web2_VARS.fd")
	d.SetBoot(domxml.Loader, "/new/CODE.fd")
	for _, target := range []string{"vda", "sda", "vdb"} {
		if !d.SetDisk(target, domxml.Place{Path: "/new/" + target, Format: "qcow2"}) {
			t.Errorf("no disk %s", target)
		}
	}
	if d.SetDisk("vdz", domxml.Place{}) {
		t.Error("a disk that is not there was put elsewhere")
	}
	text := d.String()
	for _, old := range []string{"000000000001", "52:54", "<name>web<", "web_VARS", "OVMF_CODE", "/images", "backingStore", "rbd", "luks", "/dev/vg"} {
		if strings.Contains(text, old) {
			t.Errorf("%q is still there:\n%s", old, text)
		}
	}
	for _, kept := range []string{"boot order", "discard", "template", "qemu:arg", "the web &amp; more", "/tmp/swap"} {
		if !strings.Contains(text, kept) {
			t.Errorf("%q is gone:\n%s", kept, text)
		}
	}
	again := parse(t, text)
	if disks := again.Disks(); disks[2].Kind != "file" || disks[2].Path != "/new/vdb" || disks[2].Encrypted || disks[1].Format != "qcow2" {
		t.Errorf("%+v", disks)
	}
}

func TestDiskIsAFileOverAnExport(t *testing.T) {
	d := parse(t, sample)
	d.SetDisk("vda", domxml.Place{Path: "/new/vda", Format: "qcow2", Backing: &domxml.Export{Socket: "/run/x", Name: "vda", Patience: 90 * time.Second}})
	want := `<backingStore type='network'><format type='raw'/><source protocol='nbd' name='vda'><host transport='unix' socket='/run/x'/><reconnect delay='90'/></source><backingStore/></backingStore>`
	if text := d.String(); !strings.Contains(text, want) || !strings.Contains(text, "rerror_policy='stop'") {
		t.Error(text)
	}
	if !d.Backed("vda") {
		t.Error("nothing is behind the disk")
	}
}

func TestLongFormOfFirmwareVariables(t *testing.T) {
	d := parse(t, "<domain><name>a</name><os><nvram type='file'><source file='/a'/></nvram></os></domain>")
	if f := d.Firmware(); f.NVRAM != "/a" {
		t.Errorf("%+v", f)
	}
	d.SetNVRAM("/b")
	if f := d.Firmware(); f.NVRAM != "/b" {
		t.Errorf("%+v", f)
	}
}

func TestThreadsOfDisksAndOfTheirControllersAreSeen(t *testing.T) {
	d := parse(t, `<domain><name>a</name><devices>
<disk><driver iothread='1'/><target dev='vda' bus='virtio'/></disk><disk><driver/><target dev='vdb' bus='virtio'/></disk>
<disk><driver><iothreads><iothread id='1'/></iothreads></driver><target dev='vdc' bus='virtio'/></disk>
<disk><target dev='sda' bus='scsi'/></disk><disk><target dev='sdb' bus='scsi'/><address type='drive' controller='1'/></disk>
<controller type='scsi' index='1'><driver iothread='2'/></controller><controller type='scsi' index='0'/></devices></domain>`)
	for i, want := range []bool{true, false, true, false, true} {
		if k := d.Disks()[i]; k.Threaded != want {
			t.Errorf("%+v", k)
		}
	}
}

func TestTextThatIsNoDomainIsRefused(t *testing.T) {
	for _, text := range []string{"", "x", "<domain/>", "<domain><name/></domain>", "<domain><name>a</name>", "<network><name>a</name></network>", strings.Repeat(" ", 5<<20)} {
		if _, err := domxml.Parse(text); !errors.Is(err, domxml.ErrFormat) {
			t.Errorf("%.40q: err = %v", text, err)
		}
	}
}

// Whatever a definition is, it can be changed, and then says what it was changed
// to.
func FuzzChange(f *testing.F) {
	f.Add(sample)
	f.Add("<domain><name>a</name></domain>")
	f.Add("<domain><name>a</name><devices><disk><target dev='vda'/></disk><disk><target dev='vda'/></disk></devices></domain>")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := domxml.Parse(text)
		if err != nil {
			return
		}
		d.Firmware()
		d.User()
		d.AgentConnected()
		targets := map[string]bool{}
		for _, k := range d.Disks() {
			targets[k.Target] = true
			d.SetDisk(k.Target, domxml.Place{Path: "/new", Format: "qcow2"})
		}
		d.SetName("new")
		d.SetUUID("id")
		d.DropMACs()
		again, err := domxml.Parse(d.String())
		if err != nil || again.Name() != "new" || again.UUID() != "id" {
			t.Fatalf("%q, %v\n%s", again.Name(), err, d.String())
		}
		seen := map[string]bool{}
		for _, k := range again.Disks() {
			if first := !seen[k.Target]; first && (k.Path != "/new" || k.Format != "qcow2" || !targets[k.Target]) {
				t.Fatalf("%+v\n%s", k, d.String())
			}
			seen[k.Target] = true
		}
	})
}
