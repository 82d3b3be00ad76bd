package libvirt_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// liveSite is a snapshot of a domain with two qcow2 disks.
func liveSite(t *testing.T) (*site, *repotest.Snapshot) {
	s := newSite(t)
	disks := []libvirttest.Disk{s.disk("vda", "qcow2", 32*mib), s.disk("vdb", "raw", 2*mib)}
	m := s.d.Define(t, libvirttest.Text(s.domainName(), "", "", disks...), disks...)
	m.Start()
	for i := range 32 {
		m.IO(0, "write -P %d %dM 768k", i+1, i)
	}
	m.IO(1, "write -P 0x33 4096 4096")
	r := s.backup(m)
	m.Stop()
	return s, s.open(r)
}

func (s *site) live(change ...func(*libvirt.LiveOptions)) libvirt.LiveOptions {
	o := libvirt.LiveOptions{RestoreOptions: s.restoreOptions(), RunDir: filepath.Join(s.dir, "run"), StateDir: filepath.Join(s.dir, "state"), Repository: "memory"}
	o.Format = "qcow2"
	for _, c := range change {
		c(&o)
	}
	return o
}

// attach takes the domain of a live restore that has begun.
func (s *site) attach(o libvirt.LiveOptions) *libvirttest.Domain {
	s.t.Helper()
	return s.d.Attach(s.t, o.Name,
		libvirttest.Disk{Target: "vda", Path: filepath.Join(o.Dir, o.Name+"-vda.qcow2"), Format: "qcow2"},
		libvirttest.Disk{Target: "vdb", Path: filepath.Join(o.Dir, o.Name+"-vdb.qcow2"), Format: "qcow2"})
}

// wantLive compares with the snapshot and what the guest wrote since, and looks
// for what may be left.
func (s *site) wantLive(m *libvirttest.Domain, snap *repotest.Snapshot, o libvirt.LiveOptions, written map[int64]byte) {
	s.t.Helper()
	for i, d := range m.Disks {
		want, err := snap.Content(names.Archive("drive-"+d.Target+".img.fidx"), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if m.Active() {
			m.IO(i, "flush")
		}
		for off, b := range written {
			for j := range int64(4096) {
				if i == 0 {
					want[off+j] = b
				}
			}
		}
		s.wantSame(want, d)
		if info := libvirttest.Run(s.t, "qemu-img", "info", "-U", d.Path); strings.Contains(info, "backing") {
			s.t.Errorf("something is behind disk %s:\n%s", d.Target, info)
		}
	}
	for _, dir := range []string{o.RunDir, o.StateDir} {
		left, _ := os.ReadDir(dir)
		for _, e := range left {
			s.t.Errorf("%s/%s is left", dir, e.Name())
		}
	}
}

func TestGuestRunsWhileItsDisksComeBehindIt(t *testing.T) {
	s, snap := liveSite(t)
	var m *libvirttest.Domain
	seen := false
	o := s.live()
	o.Progress = func(done, total int64) {
		if m != nil {
			return
		}
		m = s.attach(o)
		if !m.Active() {
			t.Error("the guest does not run")
		}
		seen = done < total
		m.IO(0, "read -P 20 19M 768k") // of the snapshot
		m.IO(0, "write -P 0xaa 19M 4096")
		m.IO(0, "read -P 0xaa 19M 4096")
	}
	r, err := s.conn.RestoreLive(t.Context(), snap, o)
	if err != nil {
		t.Fatal(err)
	}
	if !seen {
		t.Error("all was there when the guest was first seen")
	}
	s.wantLive(m, snap, o, map[int64]byte{19 * mib: 0xaa})
	if r.Name != o.Name || len(r.Disks) != 2 {
		t.Errorf("%+v", r)
	}
	m.Stop()
	m.Start() // by the definition that stays
	m.IO(0, "read -P 0xaa 19M 4096")
}

// slowly begins a live restore and ends it when the guest runs and little is
// copied.
func (s *site) slowly(snap *repotest.Snapshot, o libvirt.LiveOptions) {
	s.t.Helper()
	ctx, cancel := context.WithCancelCause(s.t.Context())
	stop := errors.New("stopped")
	o.Rate = 1 << 16
	o.Progress = func(done, _ int64) {
		if done > 0 {
			cancel(stop)
		}
	}
	if _, err := s.conn.RestoreLive(ctx, snap, o); !errors.Is(err, stop) {
		s.t.Fatalf("err = %v", err)
	}
}

func (s *site) resume(snap *repotest.Snapshot, o libvirt.LiveOptions) {
	s.t.Helper()
	st, err := libvirt.FindLive(o.StateDir, o.Name)
	if err != nil {
		s.t.Fatal(err)
	}
	if st.Snapshot != snap.Name().Path() || st.Repository != "memory" {
		s.t.Errorf("%+v", st)
	}
	_ = exec.Command("virsh", "-c", s.d.URI(), "blockjob", st.Name, "vda", "--bandwidth", "0").Run() // the slow copy may run on
	if _, err := s.conn.ResumeLive(s.t.Context(), snap, st, o); err != nil {
		s.t.Fatal(err)
	}
}

func TestLiveRestoreGoesOnAfterACrash(t *testing.T) {
	for _, tc := range []struct {
		name   string
		crash  func(*libvirttest.Domain)
		active bool
	}{
		{"of this program", func(*libvirttest.Domain) {}, true},
		{"of QEMU", (*libvirttest.Domain).Crash, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, snap := liveSite(t)
			o := s.live()
			o.Patience = time.Hour
			s.slowly(snap, o)
			m := s.attach(o)
			m.IO(0, "write -P 0xbb 30M 64k") // whole clusters: nothing is read from behind
			m.IO(0, "flush")
			tc.crash(m)
			s.resume(snap, o)
			if m.Active() != tc.active {
				t.Errorf("runs: %v", m.Active())
			}
			written := map[int64]byte{}
			for off := int64(0); off < 64<<10; off += 4096 {
				written[30*mib+off] = 0xbb
			}
			s.wantLive(m, snap, o, written)
		})
	}
}

func TestCopyThatGaveUpIsBegunAnew(t *testing.T) {
	s, snap := liveSite(t)
	o := s.live()
	o.Patience = time.Second
	s.slowly(snap, o)
	m := s.attach(o)
	m.Wait(func() bool { return s.virsh("blockjob", m.Name, "vda", "--info") == "" })
	s.resume(snap, o)
	s.wantLive(m, snap, o, nil)
}

func TestGuestThatIsShutDownGetsTheRestOfItsDisks(t *testing.T) {
	s, snap := liveSite(t)
	o := s.live()
	o.Rate = 1 << 16
	var m *libvirttest.Domain
	o.Progress = func(done, _ int64) {
		if m == nil && done > 0 {
			m = s.attach(o)
			m.Stop()
		}
	}
	if _, err := s.conn.RestoreLive(t.Context(), snap, o); err != nil {
		t.Fatal(err)
	}
	if m.Active() {
		t.Error("the domain runs")
	}
	s.wantLive(m, snap, o, nil)
}

func TestLiveRestoreThatCannotStartLeavesNothing(t *testing.T) {
	s, snap := liveSite(t)
	o := s.live()
	if err := os.MkdirAll(o.RunDir, 0o755); err != nil {
		t.Fatal(err)
	}
	o.QemuImg = filepath.Join(s.dir, "no-qemu-img")
	if _, err := s.conn.RestoreLive(t.Context(), snap, o); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("err = %v", err)
	}
	for _, dir := range []string{o.RunDir, o.StateDir, o.Dir} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: %v, %v", dir, left, err)
		}
	}
	if _, err := s.conn.Guest(o.Name, s.options()); !errors.Is(err, libvirt.ErrNoDomain) {
		t.Errorf("the domain is there: %v", err)
	}
}

func TestSecondLiveRestoreOfTheSameDomainIsRefused(t *testing.T) {
	s, snap := liveSite(t)
	o := s.live()
	s.slowly(snap, o)
	m := s.attach(o)
	st, err := libvirt.FindLive(o.StateDir, o.Name)
	if err != nil {
		t.Fatal(err)
	}
	other := s.live(func(o *libvirt.LiveOptions) { o.Name, o.NewIDs = m.Name, true })
	if _, err := s.conn.RestoreLive(t.Context(), snap, other); !errors.Is(err, libvirt.ErrExists) {
		t.Errorf("err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var second error
	slow := o
	slow.Progress = func(int64, int64) {
		_, second = s.conn.ResumeLive(ctx, snap, st, o)
		cancel()
	}
	if _, err := s.conn.ResumeLive(ctx, snap, st, slow); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if !errors.Is(second, libvirt.ErrBusy) {
		t.Errorf("err = %v", second)
	}
}

// QEMU writes the header of a file that needs nothing behind it any more before
// the tables of what it copied last. If it dies in between, the file looks
// complete and is not.
func TestFileThatOnlyLooksCompleteGetsItsRest(t *testing.T) {
	s, snap := liveSite(t)
	o := s.live()
	o.Rate = 1 << 16
	var m *libvirttest.Domain
	o.Progress = func(done, _ int64) {
		if m == nil && done > 0 {
			m = s.attach(o)
			m.Crash()
			libvirttest.Run(t, "qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "", m.Disks[0].Path)
		}
	}
	if _, err := s.conn.RestoreLive(t.Context(), snap, o); err != nil {
		t.Fatal(err)
	}
	s.wantLive(m, snap, o, nil)
}
