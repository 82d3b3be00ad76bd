package qemu_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/guest"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu"
	"github.com/holdfast-backup/holdfast/internal/guest/qemu/qemutest"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const (
	mib   = 1 << 20
	chunk = 1 * mib // of most tests
)

// site is a machine, a model of its disks, and a repository.
type site struct {
	vm    *qemutest.VM
	spec  qemutest.Spec
	model map[string][]byte // by device id
	repo  *repotest.Memory
	opts  qemu.Options
	clock int64
}

// newSite starts a machine with a qcow2 and a raw disk of an odd size.
func newSite(t *testing.T, change ...func(*qemutest.Spec)) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{repo: repotest.New(), model: map[string][]byte{}, clock: 1_700_000_000}
	s.spec = qemutest.Spec{Name: "testguest", Paused: true, Disks: []qemutest.Disk{
		{ID: "root", Path: filepath.Join(dir, "root.qcow2"), Format: "qcow2", Size: 8 * mib},
		{ID: "data", Path: filepath.Join(dir, "data.raw"), Format: "raw", Size: 5*mib + 512, Device: "legacy"},
	}}
	for _, c := range change {
		c(&s.spec)
	}
	for _, d := range s.spec.Disks {
		s.model[d.ID] = make([]byte, d.Size)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
		t.Fatal(err)
	}
	s.opts = qemu.Options{ScratchDir: dir, RunDir: dir}
	s.start(t)
	return s
}

// start starts the machine again.
func (s *site) start(t *testing.T) {
	t.Helper()
	s.vm = qemutest.Start(t, s.spec)
	s.opts.QMP = s.vm.QMP
}

func (s *site) write(t *testing.T, disk string, off, n int64, pattern byte) {
	t.Helper()
	s.vm.Write(t, disk, off, n, pattern)
	copy(s.model[disk][off:off+n], bytes.Repeat([]byte{pattern}, int(n)))
}

func (s *site) zero(t *testing.T, disk string, off, n int64) {
	t.Helper()
	s.vm.Zero(t, disk, off, n)
	clear(s.model[disk][off : off+n])
}

func (s *site) job() guest.Job {
	s.clock++
	return guest.Job{
		Snapshot:   names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: s.clock},
		Repository: "memory", Bitmaps: guest.Reuse,
		Options: backup.Options{ChunkSize: chunk, Workers: 2},
	}
}

// try makes a backup.
func (s *site) try(t *testing.T, change ...func(*guest.Job)) (guest.Report, error) {
	t.Helper()
	g, err := qemu.Open(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}()
	j := s.job()
	for _, c := range change {
		c(&j)
	}
	return guest.Backup(t.Context(), s.repo, g, j)
}

// backup makes one that must succeed, and compares it with the model as it was
// when the point was taken.
func (s *site) backup(t *testing.T, change ...func(*guest.Job)) guest.Report {
	t.Helper()
	var want map[string][]byte
	taken := func(j *guest.Job) {
		after := j.Taken
		j.Taken = func(p guest.Point) {
			want = map[string][]byte{}
			for id, b := range s.model {
				want["drive-"+id] = bytes.Clone(b)
			}
			if after != nil {
				after(p)
			}
		}
	}
	r, err := s.try(t, append(change, taken)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Leftover != nil {
		t.Fatal(r.Leftover)
	}
	s.compare(t, r, want)
	s.clean(t)
	return r
}

func (s *site) compare(t *testing.T, r guest.Report, want map[string][]byte) {
	t.Helper()
	snap, err := s.repo.Open(t.Context(), r.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Disks {
		got, err := snap.Content(d.Archive, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want[d.Name]) {
			at := 0
			for at < len(got) && at < len(want[d.Name]) && got[at] == want[d.Name][at] {
				at++
			}
			t.Fatalf("%s (%s) is not what the guest had: %d bytes, want %d; at %d it is %#x, want %#x",
				d.Name, d.Mode, len(got), len(want[d.Name]), at, got[at:min(at+1, len(got))], want[d.Name][at:min(at+1, len(want[d.Name]))])
		}
	}
}

// clean demands that nothing but one bitmap a disk is left, in QEMU or in
// directories.
func (s *site) clean(t *testing.T) {
	t.Helper()
	bitmaps := map[string]int{}
	for _, l := range s.vm.Left(t) {
		if name, ok := strings.CutPrefix(l, "bitmap "); ok {
			bitmaps[name]++
		} else {
			t.Errorf("left in QEMU: %s", l)
		}
	}
	if len(bitmaps) > 1 {
		t.Errorf("bitmaps of more than one run: %v", bitmaps)
	}
	s.noFiles(t)
}

func (s *site) noFiles(t *testing.T) {
	t.Helper()
	files, err := os.ReadDir(s.opts.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".qcow2") && !strings.HasSuffix(f.Name(), ".raw") {
			t.Errorf("left over: %s", f.Name())
		}
	}
}

func wantModes(t *testing.T, r guest.Report, want map[string]guest.Mode) {
	t.Helper()
	for _, d := range r.Disks {
		if d.Mode != want[d.Name] {
			t.Errorf("%s: mode %s, want %s (%s)", d.Name, d.Mode, want[d.Name], d.Why)
		}
	}
	if len(r.Disks) != len(want) {
		t.Errorf("%d disks, want %d", len(r.Disks), len(want))
	}
}

func modes(root, data guest.Mode) map[string]guest.Mode {
	return map[string]guest.Mode{"drive-root": root, "drive-data": data}
}

// eachMethod runs a test with every way to make disks stand still.
func eachMethod(t *testing.T, f func(t *testing.T, m qemu.Method)) {
	for _, m := range []qemu.Method{qemu.Filter, qemu.Job} {
		t.Run(fmt.Sprint(m), func(t *testing.T) { f(t, m) })
	}
}

// diskReads is how much was read of disks.
func diskReads(r guest.Report) (n int64) {
	for _, a := range r.Archives {
		if strings.HasSuffix(a.Archive.Filename, ".fidx") {
			n += a.Stats.Read
		}
	}
	return n
}
