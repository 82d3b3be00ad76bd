package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/cache"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

func snapshotOf(id string, at int) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: id}, Time: 1_700_000_000 + int64(at)}
}

// verified is the verdict on each snapshot of a verification, newest first: the number
// of errors.
func (w *world) verified(r *bucket.Repository) (errs []int) {
	w.Helper()
	rep, err := r.Verify(w.Context(), repo.VerifyOptions{})
	if err != nil {
		w.Fatal(err)
	}
	for _, v := range rep.Snapshots {
		errs = append(errs, len(v.Errors))
	}
	return errs
}

func (w *world) states(r *bucket.Repository) (states []string) {
	w.Helper()
	list, err := r.Snapshots(w.Context(), names.Root, nil)
	if err != nil {
		w.Fatal(err)
	}
	for _, s := range list { // oldest first
		states = append(states, "")
		if s.Verify != nil {
			states[len(states)-1] = s.Verify.State
		}
	}
	return states
}

// entries are how many the log has.
func (w *world) entries() int { return len(w.objects("log/")) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// A pack that is gone takes its chunks from all snapshots; the next backup that has
// them brings all back.
func TestAPackThatIsGoneIsFoundOnceAndOlderSnapshotsHeal(t *testing.T) {
	w := newWorld(t)
	r, c, rng := w.open(w.store), contract.NewClient(t), rand.New(rand.NewPCG(1, 1))
	what := contract.Random(rng, 60)
	first, second := snapshotOf("100", 1), snapshotOf("100", 2)
	w.must(c.Backup(t.Context(), r, first, what))
	w.must(c.Backup(t.Context(), r, second, what))
	packs := 0
	for _, key := range w.objects("s/") {
		if strings.Contains(key, "/p") {
			if packs++; packs <= 2 {
				w.must(w.store.Delete(t.Context(), []string{key}))
			}
		}
	}
	if packs < 4 {
		t.Fatalf("%d packs are too few for this test", packs)
	}
	before := w.entries()
	if got := w.verified(r); got[0] == 0 || got[1] == 0 {
		t.Errorf("errors of the snapshots: %v", got)
	}
	if n := w.entries() - before; n != 2 {
		t.Errorf("the verification took %d entries, want one for each snapshot", n)
	}
	if got := w.states(r); got[0] != manifest.VerifyFailed || got[1] != manifest.VerifyFailed {
		t.Errorf("states %v", got)
	}
	w.must(c.Backup(t.Context(), r, snapshotOf("200", 1), what)) // of another group
	other := w.open(w.store)
	for _, n := range []names.Snapshot{first, second} {
		if got, err := c.Restore(t.Context(), other, n); err != nil || !got.Equal(what) {
			t.Errorf("%s: %v", n, err)
		}
	}
	if got := w.verified(other); fmt.Sprint(got) != "[0 0 0]" {
		t.Errorf("errors of the snapshots when the chunks are back: %v", got)
	}
	if got := w.states(r); got[0] != manifest.VerifyOK || got[1] != manifest.VerifyOK {
		t.Errorf("states %v", got)
	}
}

// A verification may take longer than garbage stays. What others removed meanwhile is no damage
// that is written down.
func TestASnapshotThatIsRemovedWhileItIsVerifiedIsNotDamaged(t *testing.T) {
	w := newWorld(t)
	c, n := contract.NewClient(t), snapshotOf("100", 1)
	other := w.open(w.store)
	w.must(c.Backup(t.Context(), other, n, contract.Random(rand.New(rand.NewPCG(1, 1)), 60)))
	r := w.open(&meanwhile{Store: w.store, act: sync.OnceFunc(func() {
		w.must(other.Forget(t.Context(), n))
		for range 3 {
			w.collect(other, 0)
		}
		if left := w.packs(); len(left) > 0 {
			t.Errorf("packs are left: %v", left)
		}
	})})
	rep, err := r.Verify(t.Context(), repo.VerifyOptions{Workers: 1})
	w.must(err)
	if len(rep.Snapshots) != 1 || len(rep.Snapshots[0].Errors) == 0 {
		t.Fatalf("%+v", rep)
	}
	for _, err := range rep.Snapshots[0].Errors {
		if !errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrChunkMissing) {
			t.Errorf("%v", err)
		}
	}
	w.change(func(tx catalog.Tx) error {
		for key := range tx.Scan(catalog.BadPrefix) {
			t.Errorf("%s", key)
		}
		return nil
	})
}

// meanwhile lets others act before a pack is read.
type meanwhile struct {
	objstore.Store
	act func()
}

func (m *meanwhile) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if strings.Contains(key, "/p") {
		m.act()
	}
	return m.Store.Get(ctx, key, off, n)
}

// far is an engine that takes its time.
type far struct{ objstore.Store }

const latency = 30 * time.Millisecond

func (f far) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	time.Sleep(latency)
	return f.Store.Get(ctx, key, off, n)
}

// Verifying asks for packs, not for each chunk, for many at once, and for what several
// snapshots share once.
func TestVerifyingIsNotSlowFarAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock in here is fake
		w := newWorld(t)
		c, rng := contract.NewClient(t), rand.New(rand.NewPCG(1, 2))
		what := contract.Random(rng, 1000)
		r := w.open(w.store)
		for i := range 4 {
			w.must(c.Backup(t.Context(), r, snapshotOf("100", i), what))
			what = what.Changed(rng)
		}
		counted := meter.New(far{w.store})
		r = w.open(counted)
		start := time.Now()
		rep, err := r.Verify(t.Context(), repo.VerifyOptions{})
		w.must(err)
		took := time.Since(start)
		// 1,000 chunks of the image, and those of the tree, in packs of 16.
		if n := counted.Counts().Requests[meter.Get]; rep.Chunks < 1000 || n > rep.Chunks/4 {
			t.Errorf("%d requests for %d chunks", n, rep.Chunks)
		}
		if most := time.Duration(rep.Chunks) * latency / 20; took > most {
			t.Errorf("%v for %d chunks, want %v at most", took, rep.Chunks, most)
		}
		t.Logf("%d chunks, %d requests, %v", rep.Chunks, counted.Counts().Requests[meter.Get], took)
		w.must(r.Close())
	})
}

// A cache does not hide what the engine has lost.
func TestVerifyingReadsPastTheCache(t *testing.T) {
	w := newWorld(t)
	c, rng := contract.NewClient(t), rand.New(rand.NewPCG(1, 3))
	what := contract.Random(rng, 40)
	o := w.options()
	o.Engine = w.store
	r, err := bucket.Open(t.Context(), cache.New(w.store, t.TempDir(), cache.Options{
		Size: 1 << 20, Keep: func(key string) bool { return strings.HasPrefix(key, "s/") },
	}), o)
	w.must(err)
	n := snapshotOf("100", 1)
	w.must(c.Backup(t.Context(), r, n, what))
	if got, err := c.Restore(t.Context(), r, n); err != nil || !got.Equal(what) {
		t.Fatal(err)
	}
	w.spoil(what.Image[5*contract.ChunkSize : 6*contract.ChunkSize])
	if got := w.verified(r); got[0] == 0 {
		t.Error("the damage is not found")
	}
}

// readOnly refuses what writes, as an engine does without the right to.
type readOnly struct{ objstore.Store }

func (readOnly) Put(context.Context, string, objstore.Body, objstore.PutOptions) (objstore.Info, error) {
	return objstore.Info{}, fmt.Errorf("%w: no right to write", objstore.ErrDenied)
}

func TestDamageIsToldWhereItCannotBeWrittenDown(t *testing.T) {
	w := newWorld(t)
	c, rng := contract.NewClient(t), rand.New(rand.NewPCG(1, 4))
	what := contract.Random(rng, 40)
	w.must(c.Backup(t.Context(), w.open(w.store), snapshotOf("100", 1), what))
	w.spoil(what.Image[:contract.ChunkSize])
	r := w.open(readOnly{w.store})
	if got := w.verified(r); got[0] != 1 {
		t.Errorf("%d errors, want one", got[0])
	}
	if got := w.states(r); got[0] != "" {
		t.Errorf("the verdict %q is kept", got[0])
	}
}

// What a verification finds that is stopped is not lost.
func TestAVerificationThatIsStoppedSaysWhatItFound(t *testing.T) {
	w := newWorld(t)
	c, rng := contract.NewClient(t), rand.New(rand.NewPCG(1, 5))
	what := contract.Random(rng, 400)
	r := w.open(w.store)
	w.must(c.Backup(t.Context(), r, snapshotOf("100", 1), what))
	w.spoil(what.Image[:contract.ChunkSize])
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if _, err := r.Verify(ctx, repo.VerifyOptions{Workers: 1, Progress: func(repo.VerifyProgress) { stop() }}); err == nil {
		t.Fatal("it was not stopped")
	}
	rng2 := rand.New(rand.NewPCG(2, 5))
	next := contract.Random(rng2, 40)
	copy(next.Image, what.Image[:contract.ChunkSize])
	w.must(c.Backup(t.Context(), r, snapshotOf("200", 1), next))
	if got, err := c.Restore(t.Context(), r, snapshotOf("100", 1)); err != nil || !got.Equal(what) {
		t.Errorf("the damaged chunk was not stored again: %v", err)
	}
}
