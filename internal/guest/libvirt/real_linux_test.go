package libvirt_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
)

func TestEmulatedTPMStartsAgainAfterARestore(t *testing.T) {
	s := newSite(t)
	if _, err := exec.LookPath("swtpm_setup"); err != nil {
		if libvirttest.MustHave() {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	disk := s.disk("vda", "qcow2", mib)
	m := s.d.Define(t, libvirttest.Text(s.domainName(), "", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>", disk), disk)
	m.Start()
	snap := s.open(s.backup(m))
	r, err := s.conn.Restore(t.Context(), snap, s.restoreOptions(func(o *libvirt.RestoreOptions) { o.Start = true }))
	if err != nil {
		t.Fatal(err)
	}
	again := s.restored(r, snap)
	if !again.Active() {
		t.Error("the restored domain does not run")
	}
	if left, err := filepath.Glob(filepath.Join(s.d.SwtpmDir(), r.UUID, "tpm2", "*permall")); err != nil || len(left) != 1 {
		t.Errorf("its state is %v, %v", left, err)
	}
}

// version is the major version of QEMU.
func version(t *testing.T) (major int) {
	t.Helper()
	text := libvirttest.Run(t, "qemu-system-x86_64", "--version")
	if _, err := fmt.Sscanf(text, "QEMU emulator version %d.", &major); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return major
}

func TestDiskWithAnIOThreadIsReadOnlyByWhatDoesNotEndTheGuest(t *testing.T) {
	s := newSite(t)
	disk := s.disk("vda", "qcow2", 16*mib)
	text := libvirttest.Text(s.domainName(), "", "", disk)
	text = strings.Replace(text, "<vcpu>", "<iothreads>1</iothreads><vcpu>", 1)
	text = strings.Replace(text, "type='qcow2'/>", "type='qcow2' iothread='1'/>", 1)
	m := s.d.Define(t, text, disk)
	m.Start()
	m.IO(0, "write -P 1 0 16M")
	if version(t) < 9 {
		if _, err := guest.Backup(t.Context(), s.repo, s.guest(m), s.job()); !errors.Is(err, libvirt.ErrThread) {
			t.Fatalf("err = %v", err)
		}
		s.wantClean(m)
		if !m.Active() {
			t.Error("QEMU is gone")
		}
		m.Stop()
	}
	wantModes(t, s.backup(m), guest.New)
	wantModes(t, s.backup(m), guest.Reuse)
}

func TestUnchangedLargeDiskCostsNoReading(t *testing.T) {
	s := newSite(t)
	disk := s.disk("vda", "qcow2", 100<<30)
	m := s.d.Define(t, libvirttest.Text(s.domainName(), "", "", disk), disk)
	m.Start()
	for n, want := range []guest.Mode{guest.New, guest.Reuse} {
		j := s.job()
		j.Options.ChunkSize = backup.DefaultChunkSize
		start := time.Now()
		r, err := guest.Backup(t.Context(), s.repo, s.guest(m), j)
		if err != nil {
			t.Fatal(err)
		}
		wantModes(t, r, want)
		wantRead(t, r, 0)
		t.Logf("backup %d took %v", n, time.Since(start))
	}
}
