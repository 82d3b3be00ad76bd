package datastore_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/schedfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

var (
	schedules    = flag.Int("schedules", 1500, "random interleavings to try, and as many of each search")
	scheduleSeed = flag.Uint64("schedule-seed", 0, "seed of the random interleavings; 0: a new one")
)

// cast is a store, as it was a few days ago, and what processes do to it now.
// Its chunks are all old enough for a collection without cutoff: only what
// marks, locks and touches protect survives.
type cast struct {
	start  *world
	orphan []byte         // the content of chunks that no snapshot needs
	first  names.Snapshot // the oldest of vm/100
	base   names.Snapshot // the newest of vm/100
	other  names.Snapshot // the newest of vm/200
}

const castChunks = 3

func newCast(t testing.TB, tt *tester) *cast {
	t.Helper()
	c := &cast{start: newWorld(newDisk(t))}
	d := c.start.disk
	rng := rand.New(rand.NewPCG(11, 12))
	s, err := tt.open(d)
	if err != nil {
		t.Fatal(err)
	}
	add := func(id string, content content) names.Snapshot {
		n := snapshotAt(id, d.Now())
		if err := tt.backup(t.Context(), s, n, content.Image, content.Conf); err != nil {
			t.Fatal(err)
		}
		c.start.must[n] = content
		d.Advance(time.Hour)
		return n
	}
	first := contract.Random(rng, castChunks)
	c.first = add("100", first)
	second := first.Changed(rng)
	contract.Fill(rng, second.Image[:contract.ChunkSize]) // the base alone has the chunk that next takes over
	c.base = add("100", second)
	c.other = add("200", contract.Random(rng, castChunks))
	lost := contract.Random(rng, castChunks)
	c.orphan = lost.Image
	gone := add("300", lost)
	delete(c.start.must, gone)
	if err := s.Forget(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	d.Advance(72 * time.Hour)
	return c
}

// next is what the guests hold now: a chunk as in the base, one that the store
// knows but no snapshot needs, and one that is new, the same in all guests.
func (c *cast) next(base names.Snapshot) content {
	img := slices.Clone(c.start.must[base].Image)
	copy(img[contract.ChunkSize:], c.orphan[:contract.ChunkSize])
	contract.Fill(rand.New(rand.NewPCG(5, 5)), img[2*contract.ChunkSize:])
	return content{Image: img, Conf: []byte("memory: 4096\n")}
}

// outcome is what the processes of one run learned. Each writes its own part.
type outcome struct {
	mu      sync.Mutex
	made    map[names.Snapshot]content // acknowledged
	tried   map[names.Snapshot]content
	removed map[names.Snapshot]bool // acknowledged
	aimed   map[names.Snapshot]bool // what a removal may have reached
	logged  map[names.Snapshot]string
	logging map[names.Snapshot]string // tried
	group   map[names.Group]bool      // where a removal may have reached anything
}

func newOutcome() *outcome {
	return &outcome{
		made: map[names.Snapshot]content{}, tried: map[names.Snapshot]content{},
		removed: map[names.Snapshot]bool{}, aimed: map[names.Snapshot]bool{}, group: map[names.Group]bool{},
		logged: map[names.Snapshot]string{}, logging: map[names.Snapshot]string{},
	}
}

func (o *outcome) note(f func()) { o.mu.Lock(); defer o.mu.Unlock(); f() }

// actor is one process.
type actor struct {
	name string
	run  func(ctx context.Context, cl *client, s *datastore.Store, o *outcome) error
}

// backups is a process that backs up one guest.
func (c *cast) backups(base names.Snapshot, at time.Duration) actor {
	return actor{"backup " + base.Group.String(), func(ctx context.Context, cl *client, s *datastore.Store, o *outcome) error {
		n := snapshotAt(base.ID, c.start.disk.Now().Add(at))
		content := c.next(base)
		o.note(func() { o.tried[n] = content })
		err := cl.backup(ctx, s, n, content.Image, content.Conf)
		if err == nil {
			o.note(func() { o.made[n] = content })
		}
		return err
	}}
}

func (c *cast) forgets(n names.Snapshot) actor {
	return actor{"forget", func(ctx context.Context, _ *client, s *datastore.Store, o *outcome) error {
		o.note(func() { o.aimed[n] = true })
		err := s.Forget(ctx, n)
		if err == nil {
			o.note(func() { o.removed[n] = true })
		}
		return err
	}}
}

func (c *cast) prunes() actor {
	return actor{"prune", func(ctx context.Context, _ *client, s *datastore.Store, o *outcome) error {
		o.note(func() { o.group[c.base.Group] = true })
		results, err := s.Prune(ctx, repo.PruneOptions{Group: &c.base.Group, Keep: retention.Options{Last: 1}})
		for _, r := range results {
			if r.Mark == retention.Remove && r.Err == nil {
				o.note(func() { o.removed[r.Snapshot] = true })
			}
			err = errors.Join(err, r.Err)
		}
		return err
	}}
}

func collects() actor {
	return actor{"collect", func(_ context.Context, _ *client, s *datastore.Store, _ *outcome) error { return collect(s) }}
}

func verifies() actor {
	return actor{"verify", func(ctx context.Context, _ *client, s *datastore.Store, _ *outcome) error {
		rep, err := s.Verify(ctx, repo.VerifyOptions{Workers: 1})
		for _, v := range rep.Snapshots {
			err = errors.Join(err, errors.Join(v.Errors...))
		}
		return err
	}}
}

func (c *cast) restores(n names.Snapshot) actor {
	return actor{"restore", func(ctx context.Context, cl *client, s *datastore.Store, _ *outcome) error {
		img, _, err := cl.restore(ctx, s, n)
		if err == nil && !slices.Equal(img, c.start.must[n].Image) {
			err = errWrong
		}
		return err
	}}
}

func (c *cast) notes(n names.Snapshot) actor {
	return actor{"notes", func(ctx context.Context, _ *client, s *datastore.Store, _ *outcome) error {
		return s.SetNotes(ctx, n, "before the upgrade")
	}}
}

// logs is a process that stores the log of a snapshot. Only one of several may
// succeed.
func (c *cast) logs(n names.Snapshot, text string) actor {
	return actor{"log " + text, func(ctx context.Context, cl *client, s *datastore.Store, o *outcome) error {
		o.note(func() { o.logging[n] = text })
		err := cl.putLog(ctx, s, n, text)
		if err != nil {
			return err
		}
		o.note(func() {
			if other := o.logged[n]; other != "" {
				err = fmt.Errorf("%w: the logs %q and %q are both stored", errWrong, other, text)
			}
			o.logged[n] = text
		})
		return err
	}}
}

var errWrong = errors.New("restored something else")

// legal are the errors with which an operation may give up beside others.
func legal(err error) bool {
	return errors.Is(err, repo.ErrLocked) || errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrExists)
}

// stage runs plays; it belongs to one goroutine.
type stage struct {
	*tester
	clients []*client // one for each process
}

func newStage(t testing.TB) *stage {
	st := &stage{tester: newTester(t)}
	for range 8 {
		st.clients = append(st.clients, newClient(t))
	}
	return st
}

// play runs the actors once and holds the outcome against the rules.
func (st *stage) play(c *cast, cfg schedfs.Config, actors ...actor) (schedfs.Result, error) {
	d := c.start.disk.Clone()
	o := newOutcome()
	var doze dozing
	cfg.Strategy = doze.strategy(cfg.Strategy)
	var procs []func(vfs.FS) error
	for i, a := range actors {
		procs = append(procs, func(fsys vfs.FS) error {
			s, err := st.openProcess(fsys, cfg.Seed+uint64(i)<<32, func(ctx context.Context, dt time.Duration) error {
				d.Advance(dt)
				doze.sleep(i)
				return context.Cause(ctx)
			})
			if err != nil {
				return err
			}
			return a.run(context.Background(), st.clients[i], s, o)
		})
	}
	r := schedfs.Run(cfg, d, procs...)
	if r.Err != nil {
		return r, r.Err
	}
	killed := map[int]bool{}
	for _, step := range r.Trace {
		if step.Call == "killed" {
			killed[step.Proc] = true
		}
	}
	for i, err := range r.Errors {
		if err != nil && !killed[i] && !legal(err) {
			return r, fmt.Errorf("%s: %w", actors[i].name, err)
		}
	}
	d.Advance(time.Hour)
	w := o.world(c.start, d, killed)
	return r, st.check(w, rand.New(rand.NewPCG(cfg.Seed, 99)))
}

// openProcess opens the store as one process of several.
func (t *tester) openProcess(fsys vfs.FS, seed uint64, sleep func(context.Context, time.Duration) error) (*datastore.Store, error) {
	s, err := datastore.Open(fsys, datastore.Options{Location: "simulated disk", Rand: newBytes(seed), Sleep: sleep})
	if err == nil {
		datastore.ShareCodecs(t.codecs, s)
	}
	return s, err
}

// newBytes is a source of the same random bytes for the same seed.
func newBytes(seed uint64) *rand.ChaCha8 {
	var b [32]byte
	for i := range 8 {
		b[i] = byte(seed >> (8 * i))
	}
	return rand.NewChaCha8(b)
}

// world says what must and what may be there.
func (o *outcome) world(start *world, d *simdisk.Disk, killed map[int]bool) *world {
	w := newWorld(d)
	maps.Copy(w.must, start.must)
	maps.Copy(w.must, o.made)
	for n, c := range o.tried {
		if _, made := o.made[n]; !made && len(killed) > 0 { // killed after it was in place
			w.may[n] = c
		}
	}
	maps.Copy(w.mustLog, o.logged)
	if len(killed) > 0 {
		maps.Copy(w.mayLog, o.logging)
	}
	for n, c := range maps.Clone(w.must) {
		switch {
		case o.removed[n]:
			delete(w.must, n)
		case o.aimed[n], len(killed) > 0 && o.group[n.Group]:
			w.may[n] = c
			delete(w.must, n)
		}
	}
	return w
}

// dozing keeps a process that sleeps from being chosen until another did
// something: a strategy with ranks would let it look for a lock for ever.
type dozing struct {
	mu     sync.Mutex
	asleep map[int]bool
}

func (z *dozing) sleep(proc int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.asleep == nil {
		z.asleep = map[int]bool{}
	}
	z.asleep[proc] = true
}

func (z *dozing) strategy(s schedfs.Strategy) schedfs.Strategy {
	return func(rng *rand.Rand, procs int) schedfs.Picker {
		pick := s(rng, procs)
		return func(step int, ready []int) int {
			z.mu.Lock()
			defer z.mu.Unlock()
			awake := slices.DeleteFunc(slices.Clone(ready), func(p int) bool { return z.asleep[p] })
			if len(awake) == 0 {
				awake = ready
			}
			p := pick(step, awake)
			clear(z.asleep)
			return p
		}
	}
}

func TestOperationsOfSeveralProcessesInRandomOrders(t *testing.T) {
	seed := *scheduleSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	var tried, kills, calls atomic.Int64
	var wg sync.WaitGroup
	const workers = 2
	for worker := range workers {
		st := newStage(t)
		c := newCast(t, st.tester)
		wg.Go(func() {
			for i := worker; i < *schedules && !t.Failed(); i += workers {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				actors := c.choose(rng)
				cfg := schedfs.Config{Seed: rng.Uint64(), Kill: map[int]int{}}
				switch i / workers % 4 {
				case 0, 1:
					cfg.Strategy = schedfs.Random()
				case 2:
					cfg.Strategy = schedfs.PCT(3, 120*len(actors))
				case 3:
					cfg.Strategy = schedfs.PCT(6, 120*len(actors))
				}
				for p := range actors {
					if rng.IntN(6) == 0 {
						cfg.Kill[p] = rng.IntN(120)
					}
				}
				r, err := st.play(c, cfg, actors...)
				if err != nil {
					t.Errorf("seed %d, run %d: %v\n%s", seed, i, err, r)
				}
				tried.Add(1)
				calls.Add(int64(len(r.Trace)))
				for _, s := range r.Trace {
					if s.Call == "killed" {
						kills.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	t.Logf("seed %d: %d interleavings, %d calls, %d processes killed", seed, tried.Load(), calls.Load(), kills.Load())
}

// choose casts three to seven processes, collection and removal of the base
// among them most of the time.
func (c *cast) choose(rng *rand.Rand) []actor {
	all := []actor{
		c.backups(c.base, 0), collects(), c.forgets(c.base), c.backups(c.other, 0), c.prunes(),
		c.backups(c.base, 2*time.Second), verifies(), c.restores(c.base), collects(),
		c.logs(c.base, "done"),
	}
	if rng.IntN(3) > 0 {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	return all[:3+rng.IntN(5)]
}

// All schedules with few interruptions, of the groups of operations that share
// the most.
func TestOperationsOfSeveralProcessesInAllNearlySequentialOrders(t *testing.T) {
	for _, tc := range []struct {
		name          string
		interruptions int
		actors        func(*cast) []actor
	}{
		{"backup, removal of its base, collection", 1, func(c *cast) []actor {
			return []actor{c.backups(c.base, 0), c.forgets(c.base), collects()}
		}},
		{"collection, backup, removal of its base", 1, func(c *cast) []actor {
			return []actor{collects(), c.backups(c.base, 0), c.forgets(c.base)}
		}},
		{"collection, backup", 2, func(c *cast) []actor { return []actor{collects(), c.backups(c.other, 0)} }},
		{"two backups of one group", 2, func(c *cast) []actor {
			return []actor{c.backups(c.base, 0), c.backups(c.base, 2*time.Second)}
		}},
		{"backup, pruning, collection", 1, func(c *cast) []actor {
			return []actor{c.backups(c.base, 0), c.prunes(), collects()}
		}},
		{"restore, removal, collection", 1, func(c *cast) []actor {
			return []actor{c.restores(c.base), c.forgets(c.base), collects()}
		}},
		{"two logs", 2, func(c *cast) []actor { return []actor{c.logs(c.base, "one"), c.logs(c.base, "two")} }},
		{"log, removal, notes", 1, func(c *cast) []actor {
			return []actor{c.logs(c.base, "done"), c.forgets(c.base), c.notes(c.base)}
		}},
		{"log, pruning of its snapshot", 2, func(c *cast) []actor {
			return []actor{c.logs(c.first, "done"), c.prunes()}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			st := newStage(t)
			c := newCast(t, st.tester)
			actors := tc.actors(c)
			tried, search := 0, schedfs.NewSearch(tc.interruptions)
			for search.More() && tried < *schedules {
				r, err := st.play(c, schedfs.Config{Seed: 1, Strategy: search.Strategy()}, actors...)
				if err != nil {
					t.Fatalf("schedule %d: %v\n%s", tried, err, r)
				}
				tried++
			}
			t.Logf("%d schedules with at most %d interruptions; all of them: %v", tried, tc.interruptions, !search.More())
		})
	}
}
