package libvirt_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
)

// snapshot puts new files above the qcow2 disks.
func (s *site) snapshot(m *libvirttest.Domain) {
	s.t.Helper()
	s.virsh("snapshot-create-as", m.Name, "snap", "--disk-only", "--diskspec", "vdc,snapshot=no")
	for i := range 2 {
		m.Disks[i].Path = strings.TrimSuffix(m.Disks[i].Path, "qcow2") + "snap"
	}
}

func TestBitmapsGoOnAcrossAnExternalSnapshot(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 1M")
	s.backup(m)
	m.IO(0, "write -P 0x12 512k 64k")
	s.snapshot(m)
	m.IO(0, "write -P 0x13 1M 64k")
	r := s.backup(m)
	wantModes(t, r, guest.Reuse, guest.Reuse)
	wantRead(t, r, 2*chunk)
	m.IO(0, "write -P 0x14 0 64k")
	m.Stop()
	wantModes(t, s.backup(m), guest.Reuse, guest.Reuse)
	wantBitmaps(t, m, 0, 1)
}

// What was written between the backup and the snapshot is only in the bitmap of
// the file below.
func TestBitmapThatIsSpreadOverAChainIsNotUsedByHalf(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	s.backup(m)
	m.IO(0, "write -P 0x12 512k 64k")
	s.snapshot(m)
	m.IO(0, "write -P 0x13 1M 64k")
	m.Stop()
	wantModes(t, s.backup(m), guest.MissingRecreated, guest.MissingRecreated) // compares
	wantModes(t, s.backup(m), guest.Reuse, guest.Reuse)
}

func TestDisksThatHoldNothingOfTheGuestAreLeftOut(t *testing.T) {
	s := newSite(t)
	cd := filepath.Join(s.dir, "cd.iso")
	libvirttest.Create(t, cd, "raw", mib)
	disk := s.disk("vda", "qcow2", mib)
	more := "<disk type='file' device='cdrom'><source file='" + cd + "'/><target dev='hda' bus='ide'/><readonly/></disk>" +
		"<disk type='file' device='cdrom'><target dev='hdb' bus='ide'/><readonly/></disk>"
	m := s.d.Define(t, libvirttest.Text(s.domainName(), "", more, disk), disk)
	for range 2 {
		if r := s.backup(m); len(r.Disks) != 1 {
			t.Errorf("%+v", r.Disks)
		}
		if !m.Active() {
			m.Start()
		}
	}
}

func TestOnlyTheDisksThatAreAskedForAreStored(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	all := m.Disks
	m.Disks = all[:1]
	r := s.backup(m, func(o *libvirt.Options) { o.Disks = []string{"vda"} })
	if len(r.Disks) != 1 {
		t.Errorf("%+v", r.Disks)
	}
	m.Disks = all[1:]
	s.backupOf(m, all, func(o *libvirt.Options) { o.Skip = []string{"vda"} })
}

// backupOf is backup of a domain of which only some disks are wanted.
func (s *site) backupOf(m *libvirttest.Domain, all []libvirttest.Disk, change ...func(*libvirt.Options)) {
	s.t.Helper()
	r, err := guest.Backup(s.t.Context(), s.repo, s.guest(m, change...), s.job())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(r.Disks) != len(m.Disks) {
		s.t.Errorf("%+v", r.Disks)
	}
	m.Disks = all
}

func TestOldQcow2HasNoBitmapsAndIsReadInWhole(t *testing.T) {
	s := newSite(t)
	m := s.define()
	libvirttest.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", m.Disks[0].Path, "4M")
	m.Start()
	m.IO(0, "write -P 0x11 0 1M")
	wantModes(t, s.backup(m), guest.None, guest.New)
	m.Stop()
	wantModes(t, s.backup(m), guest.None, guest.Reuse)
}

func TestFreezingIsAskedForAndCannotBeHad(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	_, err := guest.Backup(t.Context(), s.repo, s.guest(m, func(o *libvirt.Options) { o.MustFreeze = true }), s.job())
	if err == nil || !strings.Contains(err.Error(), "agent is not connected") {
		t.Errorf("err = %v", err)
	}
	s.wantClean(m)
}

func TestPointIsGivenUpWhenTheGuestOverwritesTooMuch(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 4M")
	j := s.job()
	var broken error
	j.Taken = func(p guest.Point) {
		m.IO(0, "write -P 0x12 0 4M")
		for broken == nil { // until the test's own deadline
			broken = p.Intact(t.Context())
		}
	}
	_, err := guest.Backup(t.Context(), s.repo, s.guest(m, func(o *libvirt.Options) { o.Limit = mib }), j)
	if err == nil || !strings.Contains(err.Error(), libvirt.ErrScratch.Error()) {
		t.Errorf("err = %v", err)
	}
	m.IO(0, "read -P 0x12 0 4M")
	s.wantClean(m)
}

func TestDomainOnTheNetworkIsReadOnlyWhileItRuns(t *testing.T) {
	s := newSite(t)
	disk := s.disk("vda", "qcow2", mib)
	more := "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='x'><host name='127.0.0.1' port='1'/></source><target dev='vdb' bus='virtio'/></disk>"
	m := s.d.Define(t, libvirttest.Text(s.domainName(), "", more, disk), disk)
	_, err := guest.Backup(t.Context(), s.repo, s.guest(m), s.job())
	if err == nil || !strings.Contains(err.Error(), "only while the domain runs") {
		t.Errorf("err = %v", err)
	}
	s.backup(m, func(o *libvirt.Options) { o.Skip = []string{"vdb"} })
}

func TestCleanupTakesAwayWhatARunLeftThatDied(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	s.backup(m)
	s.kill(m.Name, s.dir, m.Checkpoints()[0])
	did, err := s.guest(m).Cleanup(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(did, " "); !strings.Contains(all, "backup job") || strings.Count(all, "bitmap holdfast-") != 2 {
		t.Errorf("%q", did)
	}
	s.wantClean(m)
	wantCheckpoints(t, m, 0)
	m.Stop()
	wantBitmaps(t, m, 0, 0)
	wantBitmaps(t, m, 1, 0)
}

func TestBrokenBitmapOfOneDiskGoesWithItsCheckpoint(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 1M")
	s.backup(m)
	m.Stop() // only now are the bitmaps in the files
	m.Start()
	m.IO(0, "write -P 0x12 1M 64k")
	base := m.Checkpoints()[0]
	m.Crash()
	for _, what := range []string{"--remove", "--add"} { // of vdb nothing was written
		libvirttest.Run(t, "qemu-img", "bitmap", what, m.Disks[1].Path, base)
	}
	m.Start()
	wantModes(t, s.backup(m), guest.MissingRecreated, guest.Reuse)
	m.Stop()
	wantBitmaps(t, m, 0, 1)
	wantBitmaps(t, m, 1, 1)
}
