package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

var (
	crashPoints = flag.Int("crash-points", 100_000, "random crash points to try")
	crashSeed   = flag.Uint64("crash-seed", 0, "seed of the random crash points; 0: a new one")
)

// fact once it returns without an error.
// tester is one goroutine's tools.
type tester struct {
	*client
	codecs *datastore.Store
}

func newTester(t testing.TB) *tester {
	return &tester{newClient(t), mustOpen(t, newDisk(t))}
}

func (t *tester) open(d *simdisk.Disk) (*datastore.Store, error) {
	s, err := open(d, d)
	if err == nil {
		datastore.ShareCodecs(t.codecs, s)
	}
	return s, err
}

// interrupt runs op on a copy of w and cuts the power after step calls that
// change something. done reports that the operation was through before.
func (t *tester) interrupt(w *world, op operation, seed uint64, step int, crash func(*simdisk.Disk, *rand.Rand) *simdisk.Disk) (after *world, done bool, err error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	after = w.clone()
	run := op.begin(t, after, rng)
	if run == nil {
		return nil, true, nil
	}
	after.disk.StopAfter(step)
	s, err := t.open(after.disk)
	if err == nil {
		err = run(s)
	}
	if err != nil && !errors.Is(err, simdisk.ErrPowerCut) {
		return nil, false, fmt.Errorf("%s failed by itself: %w", op.name, err)
	}
	done = err == nil
	after.disk = crash(after.disk, rand.New(rand.NewPCG(seed, uint64(step))))
	after.disk.Advance(time.Minute)
	return after, done, nil
}

// check holds the invariants against a disk after a crash. It leaves the
// world as the crash made it, with what survived as facts.
func (t *tester) check(w *world, rng *rand.Rand) error {
	s, err := t.open(w.disk)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	present, err := t.checkSnapshots(s, w)
	if err != nil {
		return err
	}
	var again *content // what the interrupted backup wanted to store
	for n, c := range w.may {
		if _, ok := present[n]; !ok {
			again = &c
		}
	}
	w.settle(present)
	probe := w.clone()
	if s, err = t.open(probe.disk); err != nil {
		return err
	}
	n := snapshotAt("100", probe.disk.Now())
	if again == nil {
		c := contract.Random(rng, 6)
		again = &c
	}
	probe.must[n] = *again
	if err := t.backup(context.Background(), s, n, again.Image, again.Conf); err != nil {
		return fmt.Errorf("I3: the next backup: %w", err)
	}
	probe.disk.Advance(time.Minute)
	if err := collect(s); err != nil {
		return fmt.Errorf("I3: the next garbage collection: %w", err)
	}
	if _, err := t.checkSnapshots(s, probe); err != nil {
		return fmt.Errorf("after the next backup and garbage collection: %w", err)
	}
	return nil
}

// checkSnapshots restores everything that is listed.
func (t *tester) checkSnapshots(s *datastore.Store, w *world) (map[names.Snapshot]found, error) {
	ctx := context.Background()
	present := map[names.Snapshot]found{}
	infos, listed, err := everything(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if err := w.arrive(listed); err != nil {
		return nil, err
	}
	for _, info := range infos {
		n := info.Snapshot
		want, ok := w.must[n]
		if !ok {
			if want, ok = w.may[n]; !ok {
				return nil, fmt.Errorf("%s is listed though it was never made, or removed", n)
			}
		}
		if info.Problem != nil {
			return nil, fmt.Errorf("I2: %s: %w", n, info.Problem)
		}
		img, conf, err := t.restore(ctx, s, n)
		if err != nil && w.careless[n] && strings.Contains(err.Error(), "the file is missing") {
			if err := s.Forget(ctx, n); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("I2: restore %s: %w", n, err)
		}
		if !bytes.Equal(img, want.Image) || !bytes.Equal(conf, want.Conf) {
			return nil, fmt.Errorf("I5: %s restores to something else", n)
		}
		if v := info.Verify; v != nil && v.State != manifest.VerifyOK {
			return nil, fmt.Errorf("%s is said to be damaged", n)
		}
		text, err := t.readLog(ctx, s, n)
		switch {
		case errors.Is(err, repo.ErrNotFound) && w.careless[n]: // it went before the manifest
		case errors.Is(err, repo.ErrNotFound):
			if w.mustLog[n] != "" {
				return nil, fmt.Errorf("I1: the acknowledged log of %s is gone", n)
			}
		case err != nil:
			return nil, fmt.Errorf("the log of %s: %w", n, err)
		case text != w.mustLog[n] && text != w.mayLog[n]:
			return nil, fmt.Errorf("the log of %s says %q", n, text)
		}
		present[n] = found{text}
	}
	for n := range w.must {
		if _, ok := present[n]; !ok {
			return nil, fmt.Errorf("I1: the acknowledged snapshot %s is gone", n)
		}
	}
	return present, nil
}

// everything lists the finished snapshots of all namespaces.
func everything(ctx context.Context, s *datastore.Store) (infos []repo.SnapshotInfo, listed map[names.Snapshot]bool, err error) {
	spaces, err := s.Namespaces(ctx, names.Root)
	if err != nil {
		return nil, nil, err
	}
	listed = map[names.Snapshot]bool{}
	for _, ns := range append(spaces, names.Root) {
		all, err := s.Snapshots(ctx, ns, nil)
		if err != nil {
			return nil, nil, err
		}
		for _, info := range all {
			if info.Finished {
				infos = append(infos, info)
				listed[info.Snapshot] = true
			}
		}
	}
	return infos, listed, nil
}

// history makes a world with a few snapshots and some garbage.
func history(t *testing.T, tt *tester, rng *rand.Rand) *world {
	t.Helper()
	w := newWorld(newDisk(t))
	s, err := tt.open(w.disk)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateNamespace(context.Background(), "elsewhere"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"backup", "backup", "backup of the other guest", "backup", "forget", "backup"} {
		i := slices.IndexFunc(operations, func(o operation) bool { return o.name == name })
		if err := operations[i].begin(tt, w, rng)(s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.disk.Advance(time.Hour)
	}
	return w
}

func TestPowerCutAtEveryStep(t *testing.T) {
	modes := map[string]func(*simdisk.Disk, *rand.Rand) *simdisk.Disk{"random": (*simdisk.Disk).Crash}
	for _, mode := range simdisk.Modes() {
		modes[mode.String()] = func(d *simdisk.Disk, rng *rand.Rand) *simdisk.Disk { return d.CrashAs(mode, rng) }
	}
	for _, op := range operations {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			tt := newTester(t)
			w := history(t, tt, rand.New(rand.NewPCG(1, 2)))
			steps := 0
			for name, crash := range modes {
				for step := 0; ; step++ {
					after, done, err := tt.interrupt(w, op, 7, step, crash)
					if err != nil {
						t.Fatal(err)
					}
					if err := tt.check(after, rand.New(rand.NewPCG(3, uint64(step)))); err != nil {
						t.Fatalf("power cut (%s) after step %d: %v", name, step, err)
					}
					steps++
					if done {
						break
					}
				}
			}
			t.Logf("%d power cuts", steps)
		})
	}
}

func TestPowerCutAtRandomPointsOfRandomHistories(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // little lives long here
	start := time.Now()
	var tried atomic.Int64
	var wg sync.WaitGroup
	for worker := range runtime.GOMAXPROCS(0) {
		tt := newTester(t)
		wg.Go(func() {
			for round := uint64(worker); tried.Load() < int64(*crashPoints) && !t.Failed(); round += uint64(runtime.GOMAXPROCS(0)) {
				if err := lineage(t, tt, seed, round, &tried); err != nil {
					t.Errorf("seed %d, history %d: %v", seed, round, err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d crash points, seed %d, %.0f a second", tried.Load(), seed, float64(tried.Load())/time.Since(start).Seconds())
}

// lineage follows one disk through operations and crashes. From each state a
// few operations are interrupted at random points; one of the disks that come
// out goes on.
func lineage(t *testing.T, tt *tester, seed, round uint64, tried *atomic.Int64) error {
	rng := rand.New(rand.NewPCG(seed, round))
	w := history(t, tt, rng)
	for generation := range 8 {
		var heir *world
		for range 5 {
			op := operations[rng.IntN(len(operations))]
			opSeed := rng.Uint64()
			_, _, total, err := tt.dry(w, op, opSeed)
			if err != nil {
				return fmt.Errorf("generation %d: %w", generation, err)
			}
			for range min(3, total) {
				step := rng.IntN(total + 1)
				after, _, err := tt.interrupt(w, op, opSeed, step, (*simdisk.Disk).Crash)
				if err != nil {
					return fmt.Errorf("generation %d, %s, step %d: %w", generation, op.name, step, err)
				}
				if err := tt.check(after, rng); err != nil {
					return fmt.Errorf("generation %d, %s, power cut after step %d of %d: %w", generation, op.name, step, total, err)
				}
				tried.Add(1)
				if heir == nil || rng.IntN(4) == 0 {
					heir = after
				}
			}
		}
		if heir != nil {
			w = heir
		}
	}
	return nil
}

// dry counts the steps of an operation.
func (t *tester) dry(w *world, op operation, seed uint64) (after *world, done bool, steps int, err error) {
	after = w.clone()
	run := op.begin(t, after, rand.New(rand.NewPCG(seed, 1)))
	if run == nil {
		return nil, true, 0, nil
	}
	before := after.disk.Ops()
	s, err := t.open(after.disk)
	if err == nil {
		err = run(s)
	}
	return after, true, after.disk.Ops() - before, err
}
