package libvirt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt"
	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/libvirttest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// One daemon serves all tests: it takes seconds to find out what QEMU can do.
var daemon = sync.OnceValues(libvirttest.Start)

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(victimEnv); ok {
		fmt.Fprintln(os.Stderr, victim(strings.Split(args, "\n")))
		os.Exit(1)
	}
	code := m.Run()
	if libvirttest.Missing() == "" {
		if d, err := daemon(); err == nil {
			err = d.Stop()
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	os.Exit(code)
}

const (
	chunk = 256 << 10
	mib   = 1 << 20
)

// site is a daemon, a repository and a directory of the test.
type site struct {
	t    *testing.T
	d    *libvirttest.Daemon
	conn *libvirt.Conn
	repo *repotest.Memory
	dir  string
	n    int64
}

func newSite(t *testing.T) *site {
	libvirttest.Require(t)
	d, err := daemon()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(d.Dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.RemoveAll(dir)
		if t.Failed() {
			t.Log(d.QEMULogs())
		}
	})
	return &site{t: t, d: d, conn: connect(t, d), repo: repotest.New(), dir: dir}
}

func connect(t *testing.T, d *libvirttest.Daemon) *libvirt.Conn {
	a, err := libvirt.ParseAddress(d.URI(), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := libvirt.Open(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// disk makes an image.
func (s *site) disk(target, format string, size int64) libvirttest.Disk {
	d := libvirttest.Disk{Target: target, Path: filepath.Join(s.dir, target+"."+format), Format: format}
	libvirttest.Create(s.t, d.Path, format, size)
	return d
}

// define makes a domain, shut down, with two qcow2 disks and a raw one.
func (s *site) define() *libvirttest.Domain {
	disks := []libvirttest.Disk{s.disk("vda", "qcow2", 4*mib), s.disk("vdb", "qcow2", 2*mib+12800), s.disk("vdc", "raw", mib)}
	return s.d.Define(s.t, libvirttest.Text(s.domainName(), "", "", disks...), disks...)
}

func (s *site) domainName() string {
	return strings.NewReplacer("/", "-", "_", "-").Replace(s.t.Name())
}

func (s *site) options(change ...func(*libvirt.Options)) libvirt.Options {
	o := libvirt.Options{
		RunDir: filepath.Join(s.dir, "run"), ScratchDir: filepath.Join(s.dir, "scratch"), SwtpmDir: s.d.SwtpmDir(), Reserve: mib,
	}
	for _, c := range change {
		c(&o)
	}
	return o
}

func (s *site) guest(m *libvirttest.Domain, change ...func(*libvirt.Options)) *libvirt.Guest {
	s.t.Helper()
	g, err := s.conn.Guest(m.Name, s.options(change...))
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

func (s *site) job() guest.Job {
	s.n++
	return guest.Job{
		Snapshot:   names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1_700_000_000 + s.n},
		Repository: "memory", Bitmaps: guest.Reuse,
		Options: backup.Options{ChunkSize: chunk, Workers: 2},
	}
}

// backup makes a snapshot and compares it with the disks. Nothing but one
// checkpoint stays in the domain.
func (s *site) backup(m *libvirttest.Domain, change ...func(*libvirt.Options)) guest.Report {
	s.t.Helper()
	r, err := guest.Backup(s.t.Context(), s.repo, s.guest(m, change...), s.job())
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Leftover != nil {
		s.t.Fatal(r.Leftover)
	}
	s.compare(m, r)
	s.wantClean(m)
	return r
}

func (s *site) compare(m *libvirttest.Domain, r guest.Report) {
	s.t.Helper()
	snap, err := s.repo.Open(s.t.Context(), r.Snapshot)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, d := range m.Disks {
		got, err := snap.Content(names.Archive("drive-"+d.Target+".img.fidx"), nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if m.Active() {
			m.IO(i, "flush")
		}
		s.wantSame(got, d)
	}
}

// wantSame lets qemu-img judge.
func (s *site) wantSame(got []byte, d libvirttest.Disk) {
	s.t.Helper()
	file := filepath.Join(s.dir, "got.raw")
	if err := os.WriteFile(file, got, 0o600); err != nil {
		s.t.Fatal(err)
	}
	libvirttest.Run(s.t, "qemu-img", "compare", "-U", "-f", "raw", "-F", d.Format, file, d.Path)
}

// wantClean looks for what a run may have left.
func (s *site) wantClean(m *libvirttest.Domain) {
	s.t.Helper()
	if m.Active() && m.HasJob() {
		s.t.Error("a backup job is left in the domain")
	}
	for _, dir := range []string{"run", "scratch"} {
		left, _ := os.ReadDir(filepath.Join(s.dir, dir))
		for _, e := range left {
			s.t.Errorf("%s/%s is left", dir, e.Name())
		}
	}
	if n := s.repo.InUse(); n != 0 {
		s.t.Errorf("%d sessions or snapshots are left open", n)
	}
}

// wantModes compares how bitmaps were used.
func wantModes(t *testing.T, r guest.Report, want ...guest.Mode) {
	t.Helper()
	for i, mode := range want {
		if d := r.Disks[i]; d.Mode != mode {
			t.Errorf("disk %s: mode %s, want %s (%s)", d.Name, d.Mode, mode, d.Why)
		}
	}
}

// wantCheckpoints compares with how many bitmaps there are in the domain.
func wantCheckpoints(t *testing.T, m *libvirttest.Domain, want int) {
	t.Helper()
	if c := m.Checkpoints(); len(c) != want {
		t.Errorf("checkpoints %v, want %d", c, want)
	}
}

// wantRead compares with how many bytes of qcow2 disks were read.
func wantRead(t *testing.T, r guest.Report, want int64) {
	t.Helper()
	var n int64
	for _, a := range r.Archives {
		if strings.HasPrefix(a.Archive.Filename, "drive-vda.") || strings.HasPrefix(a.Archive.Filename, "drive-vdb.") {
			n += a.Stats.Read
		}
	}
	if n != want {
		t.Errorf("read %d bytes of the disks, want %d", n, want)
	}
}

func TestRunningDomainIsReadOnceAndThenOnlyWhatIsDirty(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 1M")
	m.IO(1, "write -P 0x22 2M 12800")
	m.IO(2, "write -P 0x33 4096 4096")
	wantModes(t, s.backup(m), guest.New, guest.New, guest.None)
	m.IO(0, "write -P 0x44 3M 64k")
	m.IO(2, "write -P 0x55 0 4096")
	r := s.backup(m)
	wantModes(t, r, guest.Reuse, guest.Reuse, guest.None)
	wantRead(t, r, chunk)
	wantCheckpoints(t, m, 1)
}

func TestDiscardedRangeOfADomainIsStoredAsZeros(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 4M")
	s.backup(m)
	m.IO(0, "write -z -u 1M 1M")
	r := s.backup(m) // compares
	wantModes(t, r, guest.Reuse, guest.Reuse)
}

func TestDomainThatIsShutDownIsReadByItsBitmaps(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	m.IO(0, "write -P 0x11 0 1M")
	s.backup(m)
	m.IO(0, "write -P 0x12 2M 64k")
	m.Stop()
	r := s.backup(m)
	wantModes(t, r, guest.Reuse, guest.Reuse, guest.None)
	wantRead(t, r, chunk)
	wantRead(t, s.backup(m), 0)
	wantBitmaps(t, m, 0, 1)
	m.Start()
	m.IO(0, "write -P 0x13 0 64k")
	wantModes(t, s.backup(m), guest.Reuse, guest.Reuse, guest.None)
	m.Stop()
	wantBitmaps(t, m, 0, 1)
	wantCheckpoints(t, m, 1)
}

func wantBitmaps(t *testing.T, m *libvirttest.Domain, disk, want int) {
	t.Helper()
	info := libvirttest.Run(t, "qemu-img", "info", "-U", m.Disks[disk].Path)
	if n := strings.Count(info, "granularity:"); n != want {
		t.Errorf("%d bitmaps in the file, want %d:\n%s", n, want, info)
	}
}

func TestTransientDomainKeepsItsBitmapsAcrossStarts(t *testing.T) {
	s := newSite(t)
	disks := []libvirttest.Disk{s.disk("vda", "qcow2", 4*mib)}
	m := s.d.Transient(t, libvirttest.Text(s.domainName(), "", "", disks...), disks...)
	m.IO(0, "write -P 0x11 0 1M")
	wantModes(t, s.backup(m), guest.New)
	m.IO(0, "write -P 0x22 0 64k")
	m.Stop()
	m.Recreate()
	wantCheckpoints(t, m, 0) // libvirt has lost them
	m.IO(0, "write -P 0x33 2M 64k")
	r := s.backup(m)
	wantModes(t, r, guest.Reuse)
	wantRead(t, r, 2*chunk)
	m.Stop()
	wantBitmaps(t, m, 0, 1)
}

func TestDriftIsAnsweredByAFullRead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		drift func(*site, *libvirttest.Domain)
		want  []guest.Mode
	}{
		{"QEMU was killed", func(_ *site, m *libvirttest.Domain) {
			m.Crash()
			m.Start()
		}, []guest.Mode{guest.MissingRecreated, guest.MissingRecreated}},
		{"killed and read while it is shut down", func(_ *site, m *libvirttest.Domain) {
			m.Crash()
		}, []guest.Mode{guest.MissingRecreated, guest.MissingRecreated}},
		{"one bitmap was removed behind libvirt's back", func(s *site, m *libvirttest.Domain) {
			m.Stop()
			name := m.Checkpoints()[0]
			libvirttest.Run(s.t, "qemu-img", "bitmap", "--remove", m.Disks[0].Path, name)
			m.Start()
		}, []guest.Mode{guest.MissingRecreated, guest.Reuse}},
		{"one bitmap stopped recording", func(s *site, m *libvirttest.Domain) {
			m.Stop()
			libvirttest.Run(s.t, "qemu-img", "bitmap", "--disable", m.Disks[1].Path, m.Checkpoints()[0])
		}, []guest.Mode{guest.Reuse, guest.MissingRecreated}},
		{"checkpoint was deleted", func(s *site, m *libvirttest.Domain) {
			s.virsh("checkpoint-delete", m.Name, m.Checkpoints()[0])
		}, []guest.Mode{guest.MissingRecreated, guest.MissingRecreated}},
		{"only libvirt's notes were deleted", func(s *site, m *libvirttest.Domain) {
			s.virsh("checkpoint-delete", m.Name, m.Checkpoints()[0], "--metadata")
		}, []guest.Mode{guest.Reuse, guest.Reuse}},
		{"a disk was resized", func(s *site, m *libvirttest.Domain) {
			s.virsh("blockresize", m.Name, "vda", "5M")
		}, []guest.Mode{guest.MissingRecreated, guest.Reuse}},
		{"a disk was replaced", func(s *site, m *libvirttest.Domain) {
			m.Stop()
			libvirttest.Create(s.t, m.Disks[0].Path, "qcow2", 4*mib)
			m.Start()
		}, []guest.Mode{guest.MissingRecreated, guest.Reuse}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newSite(t)
			m := s.define()
			m.Start()
			m.IO(0, "write -P 0x11 0 1M")
			s.backup(m)
			m.IO(0, "write -P 0x12 512k 64k")
			m.IO(1, "write -P 0x13 0 64k")
			tc.drift(s, m)
			r := s.backup(m) // compares
			wantModes(t, r, tc.want...)
			for _, d := range r.Disks {
				if d.Mode == guest.MissingRecreated && d.Why == "" {
					t.Errorf("disk %s: no reason is given", d.Name)
				}
			}
			wantModes(t, s.backup(m), guest.Reuse, guest.Reuse)
			if m.Active() {
				m.Stop()
			}
			wantBitmaps(t, m, 0, 1)
			wantBitmaps(t, m, 1, 1)
		})
	}
}

func (s *site) virsh(args ...string) string {
	s.t.Helper()
	return libvirttest.Run(s.t, "virsh", append([]string{"-q", "-c", s.d.URI()}, args...)...)
}

func TestForeignCheckpointsAreLeftAlone(t *testing.T) {
	s := newSite(t)
	m := s.define()
	m.Start()
	foreign := filepath.Join(s.dir, "foreign.xml")
	if err := os.WriteFile(foreign, []byte(`<domaincheckpoint><name>virtnbdbackup.0</name><disks><disk name='vda' checkpoint='bitmap'/></disks></domaincheckpoint>`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.virsh("checkpoint-create", m.Name, foreign)
	m.IO(0, "write -P 0x11 0 1M")
	s.backup(m)
	m.IO(0, "write -P 0x12 0 64k")
	wantModes(t, s.backup(m), guest.Reuse, guest.Reuse)
	wantCheckpoints(t, m, 2)
	if c := strings.Join(m.Checkpoints(), " "); !strings.Contains(c, "virtnbdbackup.0") {
		t.Errorf("checkpoints %s", c)
	}
}

func TestListShowsDomainsWithTheirDisks(t *testing.T) {
	s := newSite(t)
	m := s.define()
	all, err := s.conn.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Name != m.Name {
			continue
		}
		if d.State != "shut off" || !d.Persistent || len(d.Disks) != 3 || d.Disks[0].Path != m.Disks[0].Path {
			t.Errorf("%+v", d)
		}
		return
	}
	t.Errorf("%s is not in %+v", m.Name, all)
}
