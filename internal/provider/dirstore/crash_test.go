package dirstore_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

var (
	errNoSpace error = syscall.ENOSPC
	errIO      error = syscall.EIO
)

// leftovers fails if anything is there that is no backup.
func leftovers(t testing.TB, v vfs.FS) {
	t.Helper()
	var walk func(dir string)
	walk = func(dir string) {
		list, err := v.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			for _, suffix := range []string{".part", ".gone", ".merged"} {
				if strings.HasSuffix(e.Name, suffix) {
					t.Fatalf("left behind: %s", path.Join(dir, e.Name))
				}
			}
			if e.IsDir() {
				walk(path.Join(dir, e.Name))
			}
		}
	}
	walk(".")
}

// world is a storage and what must be in it.
type world struct {
	disk *simdisk.Disk
	m    *machine
	must map[provider.Archive]content
	may  map[provider.Archive]content // what an interrupted step was making or removing
}

// check restores all that is listed after a crash, and goes on from there.
func (w *world) check(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	s := store(t, disk, incremental)
	listed := map[provider.Archive]bool{}
	list, err := s.List(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		listed[e.Archive] = true
		want, ok := w.must[e.Archive]
		if !ok {
			want, ok = w.may[e.Archive]
		}
		if !ok {
			t.Fatalf("%s is listed and was never made", e.Name)
		}
		got, err := restore(s, e.Archive)
		if err == nil {
			err = same(got, want)
		}
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
	}
	for a := range w.must {
		if !listed[a] {
			t.Fatalf("%s is lost", a.Name)
		}
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	leftovers(t, disk)

	// The next backup. The guest's bitmap counts from the last acknowledged one,
	// or from an older one.
	m := w.m.clone()
	m.start += 1000
	a, want, err := m.backup(s)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := restore(s, a); err != nil || same(got, want) != nil {
		t.Fatalf("the next backup: %v, %v", err, same(got, want))
	}
}

// TestPowerCutAtEveryStep makes a history of backups, removals and prunings, and
// cuts the power before each call that changes the disk.
func TestPowerCutAtEveryStep(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	w := &world{simdisk.New(simdisk.Options{}), newMachine(r, 100, 200<<10, 130<<10), map[provider.Archive]content{}, nil}
	var order []provider.Archive
	backup := func(s provider.Storage) error {
		a, want, err := w.m.backup(s)
		w.may = map[provider.Archive]content{a: want}
		if err == nil {
			w.must[a], order = want, append(order, a)
			w.m.change(r, 2)
		}
		return err
	}
	remove := func(n ...int) func(provider.Storage) error {
		return func(s provider.Storage) error {
			w.may = map[provider.Archive]content{}
			for _, i := range n {
				w.may[order[i]] = w.must[order[i]]
				delete(w.must, order[i])
			}
			if len(n) == 1 {
				return s.Free(context.Background(), order[n[0]])
			}
			verdicts, err := s.Prune(context.Background(), provider.PruneOptions{Keep: retention.Options{Last: len(w.must)}})
			for _, v := range verdicts {
				err = errors.Join(err, v.Err)
			}
			return err
		}
	}
	protect := func(s provider.Storage) error {
		w.may = nil
		return errors.Join(s.SetProtected(context.Background(), order[len(order)-1], true),
			s.SetNotes(context.Background(), order[len(order)-1], "keep"),
			s.SetProtected(context.Background(), order[len(order)-1], false))
	}
	points := 0
	for n, step := range []func(provider.Storage) error{
		backup, backup, backup, protect, backup, remove(1), backup, remove(0), backup, remove(2, 3), remove(5), backup,
	} {
		disk, m, must, old := w.disk, w.m, w.must, order
		again := func() { w.m, w.must, order = m.clone(), maps.Clone(must), slices.Clone(old) }
		whole := disk.Clone()
		again()
		if err := step(store(t, whole, incremental)); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		for cut := range whole.Ops() - disk.Ops() {
			for try := range 2 {
				now := disk.Clone()
				now.StopAfter(cut)
				again()
				_ = step(store(t, now, incremental)) // may succeed: then w.must says so
				mode := simdisk.Modes()[(cut+try*2)%len(simdisk.Modes())]
				points++
				w.check(t, now.CrashAs(mode, rand.New(rand.NewPCG(uint64(cut), uint64(try)))))
			}
		}
		again()
		w.disk = disk.Clone()
		if err := step(store(t, w.disk, incremental)); err != nil {
			t.Fatal(err)
		}
		// What was acknowledged is durable.
		w.may = nil
		w.check(t, w.disk.CrashAs(simdisk.Nothing, r))
		leftovers(t, w.disk)
	}
	t.Logf("%d power cuts", points)
}
