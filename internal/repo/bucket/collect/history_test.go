package collect

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

var errKilled = errors.New("the process was killed")

// mortal is the store in the eyes of a process that dies before its call number left,
// or, if late, after that call was done.
type mortal struct {
	objstore.Store
	left int
	late bool
	kill context.CancelCauseFunc

	mu     sync.Mutex
	calls  int
	meddle map[int]func() // what others do before a call
}

func (m *mortal) step() (do bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if f := m.meddle[m.calls]; f != nil {
		f()
	}
	if m.left--; m.left > 0 {
		return true, nil
	}
	m.kill(errKilled)
	return m.late && m.left == 0, errKilled
}

func (m *mortal) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if _, err := m.step(); err != nil {
		return objstore.Object{}, err
	}
	return m.Store.Get(ctx, key, off, n)
}

func (m *mortal) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (info objstore.Info, err error) {
	do, err := m.step()
	if do {
		var done error
		info, done = m.Store.Put(ctx, key, body, o)
		err = errors.Join(err, done)
	}
	return info, err
}

func (m *mortal) Stat(ctx context.Context, key string) (objstore.Info, error) {
	if _, err := m.step(); err != nil {
		return objstore.Info{}, err
	}
	return m.Store.Stat(ctx, key)
}

func (m *mortal) List(ctx context.Context, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	if _, err := m.step(); err != nil {
		return nil, false, err
	}
	return m.Store.List(ctx, prefix, after, limit)
}

func (m *mortal) Delete(ctx context.Context, keys []string) error {
	do, err := m.step()
	if do {
		err = errors.Join(err, m.Store.Delete(ctx, keys))
	}
	return err
}

func (m *mortal) Retain(ctx context.Context, key string, r objstore.Retention) error {
	do, err := m.step()
	if do {
		err = errors.Join(err, m.Store.Retain(ctx, key, r))
	}
	return err
}

// collectAndDie makes a collection in a process that dies at its call number n, and
// reports whether it came to its end before. Meanwhile others do something.
func (w *world) collectAndDie(n int, late bool, meddle map[int]func()) bool {
	w.t.Helper()
	ctx, kill := context.WithCancelCause(w.t.Context())
	defer kill(nil)
	m := &mortal{Store: w.store, left: n, late: late, kill: kill, meddle: meddle}
	l, err := ledger.Open(ctx, m, ledger.Options{Who: "dying", Now: func() time.Time { return w.now }})
	var st repo.GCStatus
	if err == nil {
		st, err = Run(ctx, m, l, w.opt)
	}
	if err != nil && !errors.Is(err, errKilled) && !errors.Is(err, ledger.ErrUnknown) {
		w.t.Fatalf("killed at call %d: %v", n, err)
	}
	if len(st.Warnings) > 0 {
		w.t.Fatalf("warnings: %v", st.Warnings)
	}
	return m.left > 0
}

// deadCollections makes collections that were left behind be taken for dead.
func (w *world) deadCollections() {
	w.opt.Over = func(_ context.Context, s catalog.Running) (bool, time.Time, error) {
		return s.Kind == catalog.GC, time.Time{}, nil
	}
}

func TestACollectionMayDieAtAnyCall(t *testing.T) {
	for _, late := range []bool{false, true} {
		done := false
		for n := 1; !done; n++ {
			synctest.Test(t, func(t *testing.T) { done = dies(t, n, late) })
		}
	}
}

func dies(t *testing.T, n int, late bool) (done bool) {
	w := newWorld(t, nil)
	w.deadCollections()
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	b := w.backup("2", slices.Concat(chunks("a", 0, 4), chunks("b", 0, 20))...)
	w.collect()
	w.backup("1", slices.Concat(chunks("a", 0, 2), chunks("c", 0, 3))...)
	running := w.begin("3").add(chunks("b", 0, 9)...)
	w.forget(a)
	w.forget(b)
	w.pass(time.Hour)
	w.collect()
	w.must(func(tx catalog.Tx) error { return catalog.End(tx, running.n) })
	done = w.collectAndDie(n, late, nil)
	w.check()
	w.backup("2", chunks("b", 0, 5)...)
	for range 3 {
		w.collect()
		w.check()
	}
	w.pass(8 * 24 * time.Hour)
	w.audit()
	w.collect()
	w.clean()
	return done
}

// clean sees that no object is left that nobody needs: packs beyond those that are needed, and
// objects of sessions that ended.
func (w *world) clean() {
	w.t.Helper()
	st := w.view()
	at, err := look(st)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(at.ended)+len(at.gone) > 0 {
		w.t.Errorf("ended sessions %v and forgotten snapshots %v are left", at.ended, at.gone)
	}
	c, err := begin(w.store, w.opt.whole(), at, 0, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = c.refs.close() }()
	if err := c.load(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	known := c.named()
	for p, err := range c.refs.packs(w.t.Context(), c.refs.shards) {
		if err != nil {
			w.t.Fatal(err)
		}
		known[p.ID.Key()] = !p.Removed
	}
	for _, key := range w.keys("s/") {
		if !known[key] {
			w.t.Errorf("object %s is left", key)
		}
	}
}

var (
	histories   = flag.Int("histories", 60, "how many histories to try")
	historySeed = flag.Uint64("history-seed", 0, "the seed of the first one")
)

// A history is what several clients and collections do, in any order; each step is whole, as
// entries of the log are, and clients also act between the calls of a collection.
func TestHistoriesOfClientsAndCollections(t *testing.T) {
	for i := range uint64(*histories) {
		seed := *historySeed + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { history(t, rand.New(rand.NewPCG(seed, 99)), 60) })
		})
	}
}

// scene is a world with its clients.
type scene struct {
	*world
	rng      *rand.Rand
	open     map[string]*session
	finished []names.Snapshot
}

func history(t *testing.T, rng *rand.Rand, steps int) {
	w := newWorld(t, nil)
	w.deadCollections()
	w.opt.Repack = []int64{0, 3000, -1}[rng.IntN(3)]
	w.opt.perShard = []int{3, 30, 1000}[rng.IntN(3)]
	s := &scene{world: w, rng: rng, open: map[string]*session{}}
	for range steps {
		switch {
		case rng.IntN(6) > 0:
			w.pass(time.Duration(1+rng.IntN(300)) * time.Minute)
			s.client()
		case rng.IntN(6) == 0:
			w.audit()
		default:
			w.opt.Cutoff = []time.Duration{0, 5 * time.Hour}[rng.IntN(2)]
			die := 1 << 30
			if rng.IntN(3) == 0 {
				die = 1 + rng.IntN(60)
			}
			meddle := map[int]func(){}
			for range rng.IntN(5) {
				meddle[1+rng.IntN(50)] = s.client
			}
			w.collectAndDie(die, rng.IntN(2) == 0, meddle)
		}
		w.check()
	}
	s.end()
}

// some are chunks that a backup needs.
func (s *scene) some() (all []string) {
	from := s.rng.IntN(40)
	for _, c := range chunks("k", from, from+1+s.rng.IntN(25)) {
		if s.rng.IntN(4) > 0 {
			all = append(all, c)
		}
	}
	return append(all, fmt.Sprint("own", s.rng.IntN(1000)))
}

// client is one step of a client.
func (s *scene) client() {
	id := fmt.Sprint(s.rng.IntN(4))
	c := s.open[id]
	switch op := s.rng.IntN(9); {
	case op < 3 && c == nil:
		s.pass(time.Second)
		s.open[id] = s.begin(id).add(s.some()...)
	case op < 4 && c == nil && len(s.finished) > 0:
		n := s.finished[s.rng.IntN(len(s.finished))]
		if s.open[n.ID] == nil {
			s.open[n.ID] = s.beginAs(catalog.Request{Session: catalog.Session{Kind: catalog.Mend, Snapshot: catalog.SnapshotName{Snapshot: n}}})
			s.open[n.ID].again(n)
		}
	case op < 5 && c != nil && !c.mends:
		c.add(s.some()...)
	case op < 8 && c != nil:
		delete(s.open, id)
		s.finish(c, s.rng.IntN(5) == 0)
	case op < 9 && len(s.finished) > 0:
		i := s.rng.IntN(len(s.finished))
		if _, err := s.update(func(tx catalog.Tx) error { return catalog.Forget(tx, s.finished[i]) }); err == nil {
			s.finished = slices.Delete(s.finished, i, i+1)
		}
	}
}

// finish ends a session, with success where it can.
func (s *scene) finish(c *session, abort bool) {
	s.t.Helper()
	err := repo.ErrNotFound
	if abort {
		c.flush()
	} else {
		err = c.tryCommit()
	}
	switch {
	case errors.Is(err, repo.ErrNotFound): // or what was to be mended was forgotten
		s.must(func(tx catalog.Tx) error { return catalog.End(tx, c.n) })
	case err != nil:
		s.t.Fatal(err)
	case !slices.Contains(s.finished, c.name):
		s.finished = append(s.finished, c.name)
	}
}

// end ends all sessions, and sees that nothing is left but what snapshots need.
func (s *scene) end() {
	for _, c := range s.open {
		s.finish(c, false)
	}
	for key := range s.view().Scan(catalog.SessionPrefix) { // collections that died
		n, err := catalog.ParseNumber(strings.TrimPrefix(key, catalog.SessionPrefix))
		if err != nil {
			s.t.Fatal(err)
		}
		s.must(func(tx catalog.Tx) error { return catalog.End(tx, n) })
	}
	s.check()
	s.opt.Cutoff, s.opt.Repack = 0, -1
	for range 3 {
		s.collect()
		s.pass(8 * 24 * time.Hour)
	}
	s.audit()
	s.collect()
	s.check()
	s.clean()
}

// again needs all chunks of a snapshot, and sends them anew.
func (s *session) again(n names.Snapshot) {
	s.w.t.Helper()
	rec, err := catalog.NeedSnapshot(s.state, n)
	if err != nil {
		s.w.t.Fatal(err)
	}
	s.mends = true
	m := s.w.mapOf(rec)
	for i := range 1000 {
		for _, name := range []string{fmt.Sprint("k", i), fmt.Sprint("own", i)} {
			d := digestOf(name)
			if _, ok, err := m.Find(d); err != nil || !ok {
				continue
			}
			s.places[d] = s.store(d, encode(s.w.t, plain(name)))
		}
	}
}

// A snapshot that appears while a collection is at work is not in its counts.
func TestASnapshotMayAppearAtAnyCallOfACollection(t *testing.T) {
	for call, done := 1, false; !done; call++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, nil)
			w.opt.Cutoff = 0
			a := w.backup("1", chunks("a", 0, 20)...)
			w.backup("2", chunks("b", 0, 3)...)
			w.collect()
			w.pass(time.Hour)
			late := w.begin("1").add(chunks("a", 0, 20)...)
			w.forget(a)
			done = true
			w.collectAndDie(1<<30, false, map[int]func(){call: func() { late.commit(); done = false }})
			if done {
				late.commit()
			}
			w.check()
			w.collect()
			w.collect()
			w.check()
			w.audit()
		})
	}
}
