package dirstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/faultfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

func TestWhatTheExampleWroteIsContinuedAndPruned(t *testing.T) {
	need(t, "qemu-img")
	need(t, "qemu-io")
	dir := t.TempDir()
	var want []byte
	before := ""
	for n := range 3 {
		a := filepath.Join(dir, fmt.Sprintf("7/qemu-%d", 1000+n))
		if err := os.MkdirAll(a, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(a, "drive-ide0.qcow2")
		args := []string{"create", "-f", "qcow2", path}
		if before != "" {
			args = append(args, "-b", before, "-F", "qcow2")
		}
		must(t, "qemu-img", append(args, "4M")...)
		must(t, "qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -P %d %dk 200k", n+1, n*70+13), path)
		if err := os.WriteFile(filepath.Join(a, "guest.conf"), []byte("name: x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		before = path
		if want == nil {
			want = make([]byte, 4<<20)
		}
		copy(want[(n*70+13)<<10:], bytes.Repeat([]byte{byte(n + 1)}, 200<<10))
	}
	if err := os.WriteFile(filepath.Join(dir, "7/previous-info"), []byte("1000 1002\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, incremental)
	g := provider.Guest{Kind: provider.QEMU, ID: 7}
	list, err := s.List(t.Context(), &g)
	if err != nil || len(list) != 3 || list[2].Parent != "7/qemu-1001" {
		t.Fatal(list, err)
	}
	m := &machine{guest: g, disks: map[string]*disk{"drive-ide0": {want, map[int64]bool{5: true}}}, start: 2000, last: list[2].Archive, uses: true}
	a, now, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := s.Entry(t.Context(), a); err != nil || e.Parent != "7/qemu-1002" {
		t.Fatal(e, err)
	}
	judge(t, dir, a, now)
	if info, err := os.ReadFile(filepath.Join(dir, "7/previous-info")); err != nil || string(info) != fmt.Sprintf("1000 %d\n", a.Start) {
		t.Errorf("previous-info %q, %v", info, err)
	}
	verdicts, err := s.Prune(t.Context(), provider.PruneOptions{Keep: retention.Options{Last: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range verdicts {
		if v.Err != nil || (v.Mark == retention.Remove) == (v.Archive == a) {
			t.Errorf("%+v", v)
		}
	}
	if got := names(t, s); !slices.Equal(got, []string{a.Name}) {
		t.Fatalf("listed: %q", got)
	}
	judge(t, dir, a, now)
}

func TestPruneWithoutPolicyOrForADryRunRemovesNothing(t *testing.T) {
	s := store(t, simdisk.New(simdisk.Options{}), incremental)
	r := rand.New(rand.NewPCG(1, 1))
	m := newMachine(r, 100, 300<<10)
	for range 3 {
		if _, _, err := m.backup(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []provider.PruneOptions{{}, {Keep: retention.Options{Last: 1}, DryRun: true}, {Keep: retention.Options{Last: 1}, Kind: provider.LXC}} {
		verdicts, err := s.Prune(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		removed := 0
		for _, v := range verdicts {
			if v.Mark == retention.Remove {
				removed++
			}
		}
		if p.DryRun != (removed == 2) || len(names(t, s)) != 3 {
			t.Errorf("%+v: %+v", p, verdicts)
		}
	}
}

func TestPruningRemovesOldLogsOfFailedBackups(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	s := store(t, d, incremental)
	m := newMachine(newRand(1), 100, 300<<10)
	m.start = 1000
	for range 3 { // 1060, 1120, 1180
		if _, _, err := m.backup(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, start := range []int64{1050, 1130, 1150, 1190} {
		if err := s.PutLog(t.Context(), s.Archive(m.guest, time.Unix(start, 0)), []byte("no")); err != nil {
			t.Fatal(err)
		}
	}
	other := s.Archive(provider.Guest{Kind: provider.LXC, ID: 100}, time.Unix(1, 0))
	if err := s.PutLog(t.Context(), other, []byte("no")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prune(t.Context(), provider.PruneOptions{Guest: &m.guest, Keep: retention.Options{Last: 2}}); err != nil {
		t.Fatal(err)
	}
	var left []string
	list, err := d.ReadDir("100")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if strings.HasSuffix(e.Name, ".failed") {
			left = append(left, e.Name)
		}
	}
	if want := []string{"lxc-1.failed", "qemu-1130.failed", "qemu-1150.failed", "qemu-1190.failed"}; !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}

func TestRemovalWithoutRoomToMergeHidesAndIsMadeUpFor(t *testing.T) {
	d := simdisk.New(simdisk.Options{Capacity: 4500 << 10})
	s := store(t, d, incremental)
	r := rand.New(rand.NewPCG(3, 3))
	m := newMachine(r, 100, 1<<20)
	scribble := func() {
		b := m.disks["drive-scsi0"].b
		for i := range b {
			b[i] = byte(i>>9+r.IntN(2)) | 1
		}
		for g := range int64(len(b) / grain) {
			m.disks["drive-scsi0"].dirty[g] = true
		}
	}
	scribble()
	first, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	scribble()
	second, want, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	filler, err := d.Create("filler", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := d.Usage()
	if _, err := filler.WriteAt(bytes.Repeat([]byte{1}, int(u.Available)-200<<10), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Free(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), first); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("the removed backup: %v", err)
	}
	if e, err := s.Entry(t.Context(), second); err != nil || e.Parent != "" {
		t.Errorf("%+v, %v: it builds on nothing that is listed", e, err)
	}
	leftovers(t, d)
	whole := func() {
		t.Helper()
		if got, err := restore(s, second); err != nil || same(got, want) != nil {
			t.Fatalf("%s: %v", second.Name, err)
		}
	}
	whole()
	if _, err := d.Lstat(first.Name); err != nil {
		t.Fatalf("what the second backup needs is gone: %v", err)
	}
	if err := errors.Join(filler.Close(), d.Remove("filler"), d.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	third, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Free(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	whole()
	if _, err := d.Lstat(first.Name); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is room now, and the first backup is still there: %v", err)
	}
}

func TestRemovalThatCannotBeNotedRefuses(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	m := newMachine(rand.New(rand.NewPCG(3, 3)), 100, 300<<10)
	s := store(t, d, incremental)
	first, _, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.backup(s); err != nil {
		t.Fatal(err)
	}
	full := faultfs.New(d, &faultfs.Rule{Ops: []faultfs.Op{faultfs.Create}, Times: -1, Err: errNoSpace})
	if err := store(t, full, incremental).Free(t.Context(), first); !errors.Is(err, provider.ErrNeeded) || !errors.Is(err, errNoSpace) {
		t.Errorf("err = %v", err)
	}
	if got := names(t, s); len(got) != 2 {
		t.Errorf("listed %q", got)
	}
}

func TestManySmallRemovalsCopyLittle(t *testing.T) {
	d := simdisk.New(simdisk.Options{})
	counted := &counting{FS: d}
	s := store(t, counted, incremental)
	r := rand.New(rand.NewPCG(3, 3))
	m := newMachine(r, 100, 8<<20)
	for i := range m.disks["drive-scsi0"].b {
		m.disks["drive-scsi0"].b[i] = byte(i>>9) | 1
	}
	most := 0
	var want content
	for range 40 {
		m.change(r, 1)
		var err error
		if _, want, err = m.backup(s); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Prune(t.Context(), provider.PruneOptions{Keep: retention.Options{Last: 2}}); err != nil {
			t.Fatal(err)
		}
		if n := len(names(t, s)); n > 2 {
			t.Fatalf("%d listed", n)
		}
		list, err := d.ReadDir("100")
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(list)-2) // the lock and previous-info
	}
	if got, err := restore(s, m.last); err != nil || same(got, want) != nil {
		t.Fatal(err, same(got, want))
	}
	if most > 9 {
		t.Errorf("%d backups at a time for 2 that are listed", most)
	}
	if n := counted.written.Load(); n > 80<<20 {
		t.Errorf("%d MiB written for 8 MiB and 40 changes", n>>20)
	}
}

type counting struct {
	vfs.FS
	written atomic.Int64
}

func (c *counting) Create(name string, perm os.FileMode) (vfs.File, error) {
	f, err := c.FS.Create(name, perm)
	return &countingFile{f, c}, err
}

type countingFile struct {
	vfs.File
	c *counting
}

func (f *countingFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.written.Add(int64(len(p)))
	return f.File.WriteAt(p, off)
}
