package libvirt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

func (s *site) restoreOptions(change ...func(*libvirt.RestoreOptions)) libvirt.RestoreOptions {
	o := libvirt.RestoreOptions{Name: s.domainName() + "-new", NewIDs: true, Dir: filepath.Join(s.dir, "new"), SwtpmDir: s.d.SwtpmDir()}
	for _, c := range change {
		c(&o)
	}
	return o
}

func (s *site) open(r guest.Report) *repotest.Snapshot {
	s.t.Helper()
	snap, err := s.repo.Open(s.t.Context(), r.Snapshot)
	if err != nil {
		s.t.Fatal(err)
	}
	return snap
}

// restored takes a restored domain for the rest of the test, and compares its
// disks with the snapshot.
func (s *site) restored(r libvirt.Restored, snap *repotest.Snapshot) *libvirttest.Domain {
	s.t.Helper()
	var disks []libvirttest.Disk
	for _, d := range r.Disks {
		disks = append(disks, libvirttest.Disk{Target: d.Target, Path: d.Path, Format: d.Format})
	}
	m := s.d.Attach(s.t, r.Name, disks...)
	for _, d := range disks {
		got, err := snap.Content(names.Archive("drive-"+d.Target+".img.fidx"), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		s.wantSame(got, d)
		if d.Format == "qcow2" {
			libvirttest.Run(s.t, "qemu-img", "check", "-q", "-U", d.Path)
		}
	}
	return m
}

// full is a domain with content, and a snapshot of it.
func (s *site) full() (*libvirttest.Domain, *repotest.Snapshot) {
	s.t.Helper()
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 1M")
	m.IO(0, "write -P 0x12 3M 4096")
	m.IO(1, "write -P 0x22 2M 12800")
	m.IO(2, "write -P 0x33 4096 4096")
	r := s.backup(m)
	m.Stop()
	return m, s.open(r)
}

func TestRestoredDomainStandsBesideTheOldOne(t *testing.T) {
	for _, format := range []string{"", "raw", "qcow2"} {
		t.Run("format="+format, func(t *testing.T) {
			s := newSite(t)
			old, snap := s.full()
			r, err := s.conn.Restore(t.Context(), snap, s.restoreOptions(func(o *libvirt.RestoreOptions) { o.Format, o.Start = format, true }))
			if err != nil {
				t.Fatal(err)
			}
			m := s.restored(r, snap)
			if !m.Active() {
				t.Error("the restored domain does not run")
			}
			for i, d := range r.Disks {
				want := format
				if want == "" {
					want = old.Disks[i].Format
				}
				if d.Format != want || filepath.Dir(d.Path) != filepath.Join(s.dir, "new") {
					t.Errorf("disk %+v", d)
				}
			}
			if old.Dom.UUID == m.Dom.UUID {
				t.Error("both have the same UUID")
			}
			old.Start() // nothing is shared
		})
	}
}

func TestLostDomainIsRestoredWhereItWas(t *testing.T) {
	s := newSite(t)
	m, snap := s.full()
	s.virsh("undefine", m.Name, "--checkpoints-metadata")
	for _, d := range m.Disks {
		if err := os.Remove(d.Path); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.conn.Restore(t.Context(), snap, libvirt.RestoreOptions{SwtpmDir: s.d.SwtpmDir()})
	if err != nil {
		t.Fatal(err)
	}
	again := s.restored(r, snap)
	if again.Name != m.Name || again.Dom.UUID != m.Dom.UUID || again.Disks[0] != m.Disks[0] {
		t.Errorf("%+v is not what was lost", r)
	}
	again.Start()
	again.IO(0, "write -P 0x77 0 64k")
	wantModes(t, s.backup(again), guest.MissingRecreated, guest.MissingRecreated)
}

func TestRestoreTakesNobodysPlace(t *testing.T) {
	s := newSite(t)
	m, snap := s.full()
	before, err := os.ReadFile(m.Disks[2].Path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*libvirt.RestoreOptions){
		"same domain":     func(o *libvirt.RestoreOptions) { o.Name, o.NewIDs = "", false },
		"same UUID":       func(o *libvirt.RestoreOptions) { o.NewIDs = false },
		"same name":       func(o *libvirt.RestoreOptions) { o.Name = m.Name },
		"same files":      func(o *libvirt.RestoreOptions) { o.Dir = "" },
		"replace another": func(o *libvirt.RestoreOptions) { o.Name, o.Replace = m.Name, true },
	} {
		if _, err := s.conn.Restore(t.Context(), snap, s.restoreOptions(change)); !errors.Is(err, libvirt.ErrExists) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "new")); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was made")
	}
	same := func(o *libvirt.RestoreOptions) { *o = libvirt.RestoreOptions{Replace: true, SwtpmDir: s.d.SwtpmDir()} }
	m.Start()
	if _, err := s.conn.Restore(t.Context(), snap, s.restoreOptions(same)); !errors.Is(err, libvirt.ErrExists) {
		t.Errorf("a running domain: err = %v", err)
	}
	m.IO(2, "write -P 0x99 0 4096")
	m.Stop()
	r, err := s.conn.Restore(t.Context(), snap, s.restoreOptions(same))
	if err != nil {
		t.Fatal(err)
	}
	s.restored(r, snap)
	if after, err := os.ReadFile(m.Disks[2].Path); err != nil || string(after) != string(before) {
		t.Errorf("the raw disk is not what it was, %v", err)
	}
}

func TestFailedRestoreLeavesNothing(t *testing.T) {
	s := newSite(t)
	_, snap := s.full()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped")
	o := s.restoreOptions()
	n := 0
	o.Started = func(names.Archive, int64) {
		if n++; n == 2 {
			cancel(stop)
		}
	}
	if _, err := s.conn.Restore(ctx, snap, o); !errors.Is(err, stop) {
		t.Fatalf("err = %v", err)
	}
	left, err := os.ReadDir(o.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := s.conn.Guest(o.Name, s.options()); !errors.Is(err, libvirt.ErrNoDomain) {
		t.Errorf("the domain is there: %v", err)
	}
}

func TestFirmwareAndTPMComeBack(t *testing.T) {
	s := newSite(t)
	put := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, vars := filepath.Join(s.dir, "CODE.fd"), filepath.Join(s.dir, "VARS.fd")
	put(code, "firmware")
	put(vars, "variables")
	disk := s.disk("vda", "qcow2", mib)
	os1 := "<loader readonly='yes' type='pflash'>" + code + "</loader><nvram>" + vars + "</nvram>"
	m := s.d.Define(t, libvirttest.Text(s.domainName(), os1, "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>", disk), disk)
	uuid := strings.TrimSpace(s.virsh("domuuid", m.Name))
	put(filepath.Join(s.d.SwtpmDir(), uuid, "tpm2", "tpm2-00.permall"), "secrets")
	put(filepath.Join(s.d.SwtpmDir(), uuid, "tpm2", ".lock"), "")
	snap := s.open(s.backup(m))
	if err := os.Remove(code); err != nil { // as on a host without this firmware
		t.Fatal(err)
	}
	r, err := s.conn.Restore(t.Context(), snap, s.restoreOptions())
	if err != nil {
		t.Fatal(err)
	}
	s.restored(r, snap)
	t.Cleanup(func() {
		_ = os.RemoveAll(filepath.Join(s.d.SwtpmDir(), uuid))
		_ = os.RemoveAll(filepath.Join(s.d.SwtpmDir(), r.UUID))
	})
	text := s.virsh("dumpxml", r.Name)
	for path, want := range map[string]string{
		filepath.Join(s.dir, "new", r.Name+"_CODE.fd"):                   "firmware",
		filepath.Join(s.dir, "new", r.Name+"_VARS.fd"):                   "variables",
		filepath.Join(s.d.SwtpmDir(), r.UUID, "tpm2", "tpm2-00.permall"): "secrets",
	} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if strings.HasSuffix(path, ".fd") && !strings.Contains(text, path) {
			t.Errorf("%s is not in the definition:\n%s", path, text)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(s.d.SwtpmDir(), r.UUID, "tpm2")); len(left) != 1 {
		t.Errorf("%v, want one file", left)
	}
}

func TestSnapshotOfSomethingElseIsNotRestoredAsADomain(t *testing.T) {
	s := newSite(t)
	_, snap := s.full()
	if _, err := s.conn.Restore(t.Context(), snap, s.restoreOptions(func(o *libvirt.RestoreOptions) {
		o.Places = map[string]string{"vdz": "/nowhere"}
	})); err == nil || !strings.Contains(err.Error(), "vdz") {
		t.Errorf("err = %v", err)
	}
}
