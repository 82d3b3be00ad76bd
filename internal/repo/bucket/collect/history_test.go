package collect

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
}

func (m *mortal) step() (do bool, err error) {
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
// reports whether it came to its end before.
func (w *world) collectAndDie(n int, late bool) bool {
	w.t.Helper()
	ctx, kill := context.WithCancelCause(w.t.Context())
	defer kill(nil)
	m := &mortal{w.store, n, late, kill}
	l, err := ledger.Open(ctx, m, ledger.Options{Who: "dying", Now: func() time.Time { return w.now }})
	if err == nil {
		_, err = Run(ctx, m, l, w.opt)
	}
	if err != nil && !errors.Is(err, errKilled) && !errors.Is(err, ledger.ErrUnknown) {
		w.t.Fatalf("killed at call %d: %v", n, err)
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
	done = w.collectAndDie(n, late)
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

// A history is what several clients and collections do, in any order; each step is whole, as
// entries of the log are.
func TestHistoriesOfClientsAndCollections(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { history(t, rand.New(rand.NewPCG(seed, 99)), 60) })
		})
	}
}

func history(t *testing.T, rng *rand.Rand, steps int) {
	w := newWorld(t, nil)
	w.deadCollections()
	w.opt.Repack = []int64{0, 3000, -1}[rng.IntN(3)]
	w.opt.perShard = []int{3, 30, 1000}[rng.IntN(3)]
	open := map[string]*session{}
	var finished []names.Snapshot
	some := func() (all []string) {
		from := rng.IntN(40)
		for _, c := range chunks("k", from, from+1+rng.IntN(25)) {
			if rng.IntN(4) > 0 {
				all = append(all, c)
			}
		}
		return append(all, fmt.Sprint("own", rng.IntN(1000)))
	}
	for range steps {
		w.pass(time.Duration(1+rng.IntN(300)) * time.Minute)
		id := fmt.Sprint(rng.IntN(4))
		s := open[id]
		switch op := rng.IntN(12); {
		case op < 3 && s == nil:
			open[id] = w.begin(id).add(some()...)
		case op < 4 && s == nil && len(finished) > 0:
			n := finished[rng.IntN(len(finished))]
			id = n.ID
			if open[id] == nil {
				open[id] = w.beginAs(catalog.Request{Session: catalog.Session{Kind: catalog.Mend, Snapshot: catalog.SnapshotName{Snapshot: n}}})
				open[id].again(n)
			}
		case op < 5 && s != nil:
			if !s.mends {
				s.add(some()...)
			}
		case op < 8 && s != nil:
			delete(open, id)
			if rng.IntN(5) == 0 {
				s.flush()
				w.must(func(tx catalog.Tx) error { return catalog.End(tx, s.n) })
				continue
			}
			err := s.tryCommit()
			if errors.Is(err, repo.ErrNotFound) { // what was to be mended was forgotten
				w.must(func(tx catalog.Tx) error { return catalog.End(tx, s.n) })
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(finished, s.name) {
				finished = append(finished, s.name)
			}
		case op < 9 && len(finished) > 0:
			i := rng.IntN(len(finished))
			if _, err := w.update(func(tx catalog.Tx) error { return catalog.Forget(tx, finished[i]) }); err == nil {
				finished = slices.Delete(finished, i, i+1)
			}
		case op < 11:
			w.opt.Cutoff = []time.Duration{0, 5 * time.Hour}[rng.IntN(2)]
			if rng.IntN(3) == 0 {
				w.collectAndDie(1+rng.IntN(60), rng.IntN(2) == 0)
			} else {
				w.collect()
			}
		default:
			if rng.IntN(3) == 0 {
				w.audit()
			}
		}
		w.check()
	}
	for _, s := range open {
		if err := s.tryCommit(); err != nil && !errors.Is(err, repo.ErrNotFound) {
			t.Fatal(err)
		}
	}
	for key := range w.view().Scan(catalog.SessionPrefix) {
		n, err := catalog.ParseNumber(strings.TrimPrefix(key, catalog.SessionPrefix))
		if err != nil {
			t.Fatal(err)
		}
		w.must(func(tx catalog.Tx) error { return catalog.End(tx, n) })
	}
	w.check()
	w.opt.Cutoff, w.opt.Repack = 0, -1
	for range 3 {
		w.collect()
		w.pass(8 * 24 * time.Hour)
	}
	w.audit()
	w.collect()
	w.check()
	w.clean()
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
