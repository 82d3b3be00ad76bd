package media

import (
	"context"
	"errors"
	"flag"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// make torture asks for more.
var (
	crashSeeds = flag.Uint64("crash-seeds", 6, "crashes at each step")
	crashSeed  = flag.Uint64("crash-seed", 0, "where the random sources of crashes begin")
)

// simulated is a disk that can lose its power, with one process.
type simulated struct{ *simdisk.Disk }

func (d simulated) Claim(oldName, newName string) error { return d.Disk.Rename(oldName, newName) }
func (d simulated) Inherit(string, string) error        { return nil }
func (d simulated) Share(string) error                  { return nil }

// simState is a state on it.
type simState struct {
	simulated
	rand io.Reader
}

func (d simState) store() keystore.Store {
	return keystore.New(d.simulated, d.rand).Limited(maxSmall)
}

func (d simState) Read(name string) ([]byte, error)      { return d.store().Load(name) }
func (d simState) Put(name string, content []byte) error { return d.store().Put(name, content, true) }

func (d simState) Open(name string, write bool) (logFile, error) {
	open := d.Disk.Open
	if write {
		open = d.OpenWrite
	}
	f, err := open(name)
	return simLog{f}, err
}

func (d simState) Create(name string) (logFile, error) {
	f, err := d.Disk.Create(name, 0o640)
	if errors.Is(err, fs.ErrExist) {
		if f, err = d.OpenWrite(name); err == nil {
			err = f.Truncate(0)
		}
	}
	return simLog{f}, err
}

func (d simState) Rename(oldName, newName string) error {
	return errors.Join(d.Disk.Rename(oldName, newName), d.SyncDir("."))
}

func (d simState) Remove(name string) error {
	return errors.Join(d.Disk.Remove(name), d.SyncDir("."))
}

func (d simState) Stat(name string) (vfs.Info, error) { return d.Lstat(name) }

func (d simState) Lock(context.Context, string, time.Duration) (func() error, error) {
	return func() error { return nil }, nil
}

type simLog struct{ vfs.File }

func (simLog) Lock() (func() error, error) { return func() error { return nil }, nil }

func stateOn(d *simdisk.Disk) *State {
	return &State{simState{simulated{d}, rand.NewChaCha8([32]byte{3})}, time.UTC, maxReplaced}
}

// story is what a backup did until the power went, as far as it was told.
type story struct {
	added     map[uuid.UUID]uuid.UUID // media to their sets
	committed map[string]At           // snapshots
	full      map[uuid.UUID]bool
}

// backup writes three media of a set, with a commit within each, and replaces an
// expired one.
func backup(t *testing.T, s *State, told *story) error {
	p := pool(t, "always", "overwrite")
	w, err := s.Write(t.Context(), p, "", at(100), false)
	if err != nil {
		return err
	}
	defer func() { _ = w.Close() }()
	for tape := range int64(3) {
		m, _, err := w.Next(t.Context(), at(100+tape))
		if err != nil {
			return err
		}
		told.added[m.UUID()] = w.Set()
		c, cut, err := s.OpenCatalog(m)
		if err != nil {
			return err
		}
		if cut.Bytes != 0 {
			t.Fatalf("a new catalog was cut: %+v", cut)
		}
		for part := range uint64(2) {
			path := snapshot(t, snap1)
			path.Time += 2*tape + int64(part)
			from := uint64(tape)*1000 + part*100
			must(t,
				c.AddArchive(2+2*part, uuid.UUID{}, "store1", chunks(from, from+100)),
				c.AddSnapshot(3+2*part, uuid.UUID{}, "store1", path))
			if err := c.Commit(); err != nil {
				return errors.Join(err, c.Close())
			}
			told.committed["store1:"+path.Path()] = At{m.UUID(), 3 + 2*part}
		}
		if err := c.Close(); err != nil {
			return err
		}
		if err := s.SetStatus(t.Context(), m.UUID(), Full); err != nil {
			return err
		}
		told.full[m.UUID()] = true
	}
	return nil
}

// library is a disk with two empty media and one of an older set.
func library(t *testing.T) *simdisk.Disk {
	d := simdisk.New(simdisk.Options{})
	f := fixture{stateOn(d), t}
	f.medium("empty1", "p1", nil, 0)
	f.medium("empty2", "", nil, 0)
	c := f.tape("old", uuid.New(), 0)
	must(t, c.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap2)), c.Commit(), c.Close())
	must(t, f.SetStatus(t.Context(), c.Medium().UUID(), Full))
	return d
}

// after looks at what a crash left, and backs up again.
func after(t *testing.T, d *simdisk.Disk, told *story) {
	t.Helper()
	s := stateOn(d)
	inv, err := s.Inventory()
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for m := range inv.Media() {
		count++
		if set, ok := told.added[m.UUID()]; ok && m.MediaSet() != set {
			t.Fatalf("%s lost its media set", m.Label.Text)
		}
		if told.full[m.UUID()] && m.Status != Full {
			t.Fatalf("%s is not full any more", m.Label.Text)
		}
	}
	if count != 3 {
		t.Fatalf("the inventory has %d media", count)
	}
	for name, at := range told.committed {
		m, err := inv.Find(at.Medium)
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.Contents([]Medium{m})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.snapshots[name]; got != at {
			t.Fatalf("committed snapshot %s is at %+v, want %+v", name, got, at)
		}
		// The chunks before it too.
		if _, ok, err := c.Chunk("store1", chunkBefore(t, name)); !ok || err != nil {
			t.Fatalf("a chunk before %s: %v, %v", name, ok, err)
		}
		must(t, c.Close())
	}
	// A backup that goes on with the current set can read all its catalogs.
	if set, ok := inv.Current("p1"); ok {
		media, err := inv.SetMedia(set)
		must(t, err)
		c, err := s.Contents(media)
		must(t, err)
		must(t, c.Close())
	}
	// Nothing has to be mended by hand before the next backup.
	next := &story{map[uuid.UUID]uuid.UUID{}, map[string]At{}, map[uuid.UUID]bool{}}
	if err := backup(t, s, next); err != nil && !errors.Is(err, ErrNoMedia) {
		t.Fatalf("the next backup: %v", err)
	}
	// And the set that was being written can be gone on with.
	for m := range inv.Media() {
		if told.added[m.UUID()] == uuid.Nil || told.full[m.UUID()] {
			continue
		}
		if _, reused := next.added[m.UUID()]; reused {
			continue
		}
		c, _, err := s.OpenCatalog(m)
		if err != nil {
			t.Fatal(err)
		}
		must(t, c.AddSnapshot(c.NextFile(), uuid.New(), "store1", snapshot(t, snap2)), c.Commit(), c.Close())
	}
}

// chunkBefore is a chunk of the archive before a snapshot of the story.
func chunkBefore(t *testing.T, name string) [32]byte {
	t.Helper()
	n := snapshot(t, name[len("store1:"):]).Time - snapshot(t, snap1).Time
	return chunk(uint64(n/2)*1000 + uint64(n%2)*100 + 99)
}

func TestPowerCutAtAnyStepOfABackupLosesNothingThatWasCommitted(t *testing.T) {
	start := library(t)
	for step := 0; ; step++ {
		d := start.Clone()
		d.StopAfter(step)
		told := &story{map[uuid.UUID]uuid.UUID{}, map[string]At{}, map[uuid.UUID]bool{}}
		err := backup(t, stateOn(d), told)
		if err != nil && !errors.Is(err, simdisk.ErrPowerCut) {
			t.Fatalf("step %d: %v", step, err)
		}
		for seed := range *crashSeeds {
			rng := rand.New(rand.NewPCG(uint64(step), *crashSeed+seed))
			after(t, d.Crash(rng), told)
		}
		if err == nil {
			if len(told.committed) != 6 || step < 20 {
				t.Fatalf("after %d steps the backup was done: %+v", step, told)
			}
			return
		}
	}
}

func TestPowerCutWhileACatalogIsRebuiltLeavesTheOldOrTheNewOne(t *testing.T) {
	start := simdisk.New(simdisk.Options{})
	f := fixture{stateOn(start), t}
	c := f.tape("tape1", uuid.New(), 0)
	must(t, c.AddSnapshot(2, uuid.New(), "store1", snapshot(t, snap1)), c.Commit(), c.Close())
	m := c.Medium()
	rebuild := func(s *State) error {
		c, err := s.Rebuild(m)
		if err != nil {
			return err
		}
		err = errors.Join(c.AddArchive(2, uuid.New(), "store1", chunks(0, 100)), c.AddSnapshot(3, uuid.New(), "store1", snapshot(t, snap2)), c.Finish())
		return errors.Join(err, c.Close())
	}
	for step := 0; ; step++ {
		d := start.Clone()
		d.StopAfter(step)
		err := rebuild(stateOn(d))
		for seed := range *crashSeeds {
			s := stateOn(d.Crash(rand.New(rand.NewPCG(uint64(step), *crashSeed+seed))))
			list, readErr := s.Snapshots(m)
			if readErr != nil || len(list) != 1 || err == nil && list[0] != "store1:"+snap2 {
				t.Fatalf("step %d: %v, %v", step, list, readErr)
			}
			must(t, rebuild(s)) // what the first left is not in the way
		}
		if err == nil {
			return
		}
		if !errors.Is(err, simdisk.ErrPowerCut) {
			t.Fatal(err)
		}
	}
}
