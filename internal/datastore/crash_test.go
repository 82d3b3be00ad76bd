package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
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
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

var (
	crashPoints = flag.Int("crash-points", 100_000, "random crash points to try")
	crashSeed   = flag.Uint64("crash-seed", 0, "seed of the random crash points; 0: a new one")
)

// world is a disk and what is known of it.
type world struct {
	disk *simdisk.Disk
	// must is what was acknowledged, and restores bit-exactly as long as it is
	// not being removed. may is what an interrupted operation was making or
	// removing: it is there in full or not at all.
	must, may map[names.Snapshot]content
	// careless is what another program was removing: parts of it may be gone
	// while it is still listed, but no chunk that its index names.
	careless map[names.Snapshot]bool
	// moves says where a snapshot of must is being moved: it is in one of the two
	// places.
	moves map[names.Snapshot]names.Snapshot
	// mustLog and mayLog are the same for the logs of snapshots that are there.
	mustLog, mayLog map[names.Snapshot]string
}

func newWorld(d *simdisk.Disk) *world {
	return &world{
		d,
		map[names.Snapshot]content{},
		map[names.Snapshot]content{},
		map[names.Snapshot]bool{},
		map[names.Snapshot]names.Snapshot{},
		map[names.Snapshot]string{},
		map[names.Snapshot]string{},
	}
}

func (w *world) clone() *world {
	return &world{
		w.disk.Clone(), maps.Clone(w.must), maps.Clone(w.may), maps.Clone(w.careless), maps.Clone(w.moves),
		maps.Clone(w.mustLog), maps.Clone(w.mayLog),
	}
}

// found is what a check saw of a snapshot.
type found struct {
	log string // "" for none
}

// settle turns what survived of the interrupted operation into facts.
func (w *world) settle(present map[names.Snapshot]found) {
	for n, c := range w.may {
		if _, ok := present[n]; ok {
			w.must[n] = c
		}
	}
	clear(w.may)
	for n, f := range present {
		if f.log != "" {
			w.mustLog[n] = f.log
		}
	}
	clear(w.mayLog)
}

// operation is one thing that a user does. begin records in w what it may
// make or remove; the returned function does it, and records in w what is a
// fact once it returns without an error.
type operation struct {
	name  string
	begin func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error
}

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

var operations = []operation{
	{"backup", beginBackup},
	{"backup of the other guest", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		return t.beginBackupOf(w, "200", rng)
	}},
	{"forget", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		w.doubt(n)
		return func(s *datastore.Store) error {
			err := s.Forget(context.Background(), n)
			if err == nil {
				delete(w.may, n)
			}
			return err
		}
	}},
	{"forget a group", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		w.doubtGroup(n)
		return func(s *datastore.Store) error {
			_, err := s.ForgetGroup(context.Background(), n.NS, n.Group)
			if err == nil {
				clear(w.may)
			}
			return err
		}
	}},
	{"prune", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		newest := n
		for o := range w.must {
			if o.GroupPath() == n.GroupPath() && o.Time > newest.Time {
				newest = o
			}
		}
		kept := w.must[newest]
		w.doubtGroup(n)
		delete(w.may, newest)
		w.must[newest] = kept
		return func(s *datastore.Store) error {
			results, err := s.Prune(context.Background(), repo.PruneOptions{Namespace: n.NS, Group: &n.Group, Keep: retention.Options{Last: 1}})
			for _, r := range results {
				err = errors.Join(err, r.Err)
			}
			if err == nil {
				clear(w.may)
			}
			return err
		}
	}},
	{"garbage collection", func(*tester, *world, *rand.Rand) func(*datastore.Store) error {
		return collect
	}},
	{"removal by another program, then garbage collection", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		w.doubt(n)
		w.careless[n] = true // a server syncs nothing when it removes
		return func(s *datastore.Store) error {
			entries, err := w.disk.ReadDir(n.Path())
			if err != nil {
				return err
			}
			for _, e := range entries {
				if err := w.disk.Remove(n.Path() + "/" + e.Name); err != nil {
					return err
				}
			}
			if err := w.disk.Remove(n.Path()); err != nil {
				return err
			}
			err = collect(s)
			if err == nil {
				delete(w.may, n)
			}
			return err
		}
	}},
	{"notes", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		return func(s *datastore.Store) error {
			return s.SetNotes(context.Background(), n, "before the upgrade")
		}
	}},
	{"log", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok || w.mustLog[n] != "" || w.mayLog[n] != "" {
			return nil
		}
		text := fmt.Sprintf("run %d: done", rng.IntN(1<<16))
		w.mayLog[n] = text
		return func(s *datastore.Store) error {
			err := t.putLog(context.Background(), s, n, text)
			if err == nil {
				w.mustLog[n] = text
				delete(w.mayLog, n)
			}
			return err
		}
	}},
	{"verify", func(*tester, *world, *rand.Rand) func(*datastore.Store) error {
		return func(s *datastore.Store) error {
			rep, err := s.Verify(context.Background(), repo.VerifyOptions{Workers: 1})
			for _, v := range rep.Snapshots {
				err = errors.Join(err, errors.Join(v.Errors...))
			}
			return err
		}
	}},
	{"mend", func(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		c := w.must[n]
		return func(s *datastore.Store) error { return t.mend(context.Background(), s, n, c.Image, c.Conf) }
	}},
	{"move", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		to := names.Namespace("elsewhere")
		if n.NS == to {
			to = names.Root
		}
		if !ok || !w.move(n, to) {
			return nil
		}
		return func(s *datastore.Store) error {
			err := s.MoveGroup(context.Background(), n.NS, n.Group, to, true)
			if errors.Is(err, repo.ErrOwner) { // the other half of the group belongs to somebody else by now
				return nil
			}
			return err
		}
	}},
	{"change of owner", func(_ *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
		n, ok := pick(w, rng)
		if !ok {
			return nil
		}
		return func(s *datastore.Store) error {
			return s.SetOwner(context.Background(), n.NS, n.Group, "backup@pbs")
		}
	}},
}

func beginBackup(t *tester, w *world, rng *rand.Rand) func(*datastore.Store) error {
	return t.beginBackupOf(w, "100", rng)
}

func (t *tester) beginBackupOf(w *world, id string, rng *rand.Rand) func(*datastore.Store) error {
	n := snapshotAt(id, w.disk.Now())
	c := contract.Random(rng, 6)
	if base, ok := pick(w, rng); ok {
		c = w.must[base].Changed(rng)
	}
	w.may[n] = c
	return func(s *datastore.Store) error {
		err := t.backup(context.Background(), s, n, c.Image, c.Conf)
		if err == nil {
			w.must[n] = c
			delete(w.may, n)
		}
		return err
	}
}

// collect removes garbage at once: all writers are known, so nothing is spared
// for their sake.
func collect(s *datastore.Store) error {
	st, err := s.GC(context.Background(), repo.GCOptions{SkipAtimeCheck: true})
	for _, warning := range st.Warnings {
		if strings.Contains(warning, "damaged") { // it would stop a server's collection
			err = errors.Join(err, errors.New(warning))
		}
	}
	return err
}

// doubt says that n is being removed.
func (w *world) doubt(n names.Snapshot) {
	w.may[n] = w.must[n]
	delete(w.must, n)
}

func (w *world) doubtGroup(of names.Snapshot) {
	for n := range maps.Clone(w.must) {
		if n.GroupPath() == of.GroupPath() {
			w.doubt(n)
		}
	}
}

// move says that the group of n is being moved; not if it would not be allowed to.
func (w *world) move(n names.Snapshot, to names.Namespace) bool {
	moves := map[names.Snapshot]names.Snapshot{}
	oldest, newest := int64(1<<62), int64(0)
	for o := range w.must {
		if o.Group != n.Group {
			continue
		}
		if o.NS == to {
			newest = max(newest, o.Time)
		}
		if o.NS != n.NS {
			continue
		}
		oldest = min(oldest, o.Time)
		moved := o
		moved.NS = to
		moves[o] = moved
	}
	if oldest > newest {
		maps.Copy(w.moves, moves)
	}
	return oldest > newest
}

// arrive makes facts of the moves, as far as they are done.
func (w *world) arrive(listed map[names.Snapshot]bool) error {
	for from, to := range w.moves {
		if listed[from] && listed[to] {
			return fmt.Errorf("%s is in two places", from)
		}
		if !listed[to] {
			continue
		}
		w.must[to] = w.must[from]
		delete(w.must, from)
		if text, ok := w.mustLog[from]; ok {
			w.mustLog[to] = text
			delete(w.mustLog, from)
		}
		if w.careless[from] { // what it has lost is lost there too
			w.careless[to] = true
			delete(w.careless, from)
		}
	}
	clear(w.moves)
	return nil
}

// pick returns a known snapshot, the same one for the same random numbers.
func pick(w *world, rng *rand.Rand) (names.Snapshot, bool) {
	all := slices.SortedFunc(maps.Keys(w.must), names.Snapshot.Compare)
	if len(all) == 0 {
		return names.Snapshot{}, false
	}
	return all[rng.IntN(len(all))], true
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
