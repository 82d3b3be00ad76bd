package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"

	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// overwrite puts other bytes where an object is.
func (w *world) overwrite(key string, change func([]byte) []byte) {
	w.t.Helper()
	b, _, err := objstore.ReadAll(w.t.Context(), w.store, key, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.Put(w.t.Context(), key, bytes.NewReader(change(b)), objstore.PutOptions{}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) warnings() []string {
	w.t.Helper()
	st, err := Run(w.t.Context(), w.store, w.log, w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Warnings
}

func TestLostOrDamagedCountsAreTakenFromNothing(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	for _, tc := range []struct {
		name  string
		spoil func(w *world, root string, shards []string)
	}{
		{"the root is lost", func(w *world, root string, _ []string) { w.delete(root) }},
		{"the root is damaged", func(w *world, root string, _ []string) { w.overwrite(root, flip) }},
		{"a shard is lost", func(w *world, _ string, shards []string) { w.delete(shards[0]) }},
		{"a shard is damaged", func(w *world, _ string, shards []string) { w.overwrite(shards[0], flip) }},
		{"the root is older than it should be", func(w *world, root string, _ []string) {
			w.must(func(tx catalog.Tx) error { tx.Set(catalog.GCKey, []byte(`{}`)); return nil })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.opt.Cutoff = 0
			a := w.backup("1", chunks("a", 0, 20)...)
			w.backup("2", slices.Concat(chunks("a", 0, 3), chunks("b", 0, 20))...)
			w.collect()
			last, _, err := catalog.Get[catalog.Collected](w.view(), catalog.GCKey)
			if err != nil {
				t.Fatal(err)
			}
			var shards []string
			for _, key := range w.keys("s/") {
				if strings.Contains(key, "/r") && key != last.State {
					shards = append(shards, key)
				}
			}
			tc.spoil(w, last.State, shards)
			w.forget(a)
			if got := w.warnings(); len(got) > 1 || len(got) == 1 && !strings.Contains(got[0], "from nothing") {
				t.Fatalf("%q", got)
			}
			w.check()
			w.collect()
			w.audit()
			if st := w.collect(); st.DiskChunks != 23 {
				t.Fatalf("%+v", st)
			}
			w.check()
		})
	}
}

func (w *world) delete(keys ...string) {
	w.t.Helper()
	if err := w.store.Delete(w.t.Context(), keys); err != nil {
		w.t.Fatal(err)
	}
}

func TestCountsThatAreWrongAreFoundByAFullCollection(t *testing.T) {
	w := newWorld(t, nil)
	a := w.backup("1", chunks("a", 0, 20)...)
	w.backup("2", chunks("b", 0, 20)...)
	w.collect()
	// The snapshot is replaced behind the back of the counts: another map under the same session.
	rec, err := catalog.NeedSnapshot(w.view(), a)
	if err != nil {
		t.Fatal(err)
	}
	other := w.begin("9").add("a0", "a1")
	other.finish()
	w.must(func(tx catalog.Tx) error { return catalog.End(tx, other.n) })
	b, info, err := objstore.ReadAll(t.Context(), w.store, catalog.SnapshotObject(other.n), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	w.overwrite(catalog.SnapshotObject(rec.Session), func([]byte) []byte { return b })
	w.must(func(tx catalog.Tx) error {
		rec.Map.Len = info.Size
		return catalog.Set(tx, catalog.SnapshotKey(a), rec)
	})
	w.opt.Full = true
	got := w.warnings()
	if len(got) != 1 || !strings.Contains(got[0], "were wrong") {
		t.Fatalf("%q", got)
	}
	w.collect()
}

func TestASnapshotThatCannotBeCountedKeepsAllPacks(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	w.collect()
	b := w.backup("2", slices.Concat(chunks("a", 0, 20), chunks("b", 0, 5))...)
	rec, err := catalog.NeedSnapshot(w.view(), b)
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	w.overwrite(catalog.SnapshotObject(rec.Session), func(b []byte) []byte { whole = bytes.Clone(b); b[3] ^= 1; return b })
	w.forget(a)
	before := w.packsThere()
	for range 3 {
		got := w.warnings()
		if len(got) != 1 || !strings.Contains(got[0], "vm/2/") {
			t.Fatalf("%q", got)
		}
	}
	if after := w.packsThere(); !slices.Equal(before, after) {
		t.Fatalf("packs %v became %v", before, after)
	}
	w.overwrite(catalog.SnapshotObject(rec.Session), func([]byte) []byte { return whole })
	w.collect()
	w.check()
	w.audit()
}

func TestWhatALateProcessStoresIsRemovedForAWeek(t *testing.T) {
	w := newWorld(t, nil)
	s := w.begin("1").add(chunks("a", 0, 20)...)
	s.finish()
	w.must(func(tx catalog.Tx) error { return catalog.End(tx, s.n) })
	w.collect()
	if left := w.packsThere(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
	w.pass(3 * 24 * time.Hour)
	late := pack.ID{Session: uint64(s.n), Number: 9}
	w.put(late.Key(), []byte("late"))
	w.collect()
	if left := w.packsThere(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
	w.pass(4 * 24 * time.Hour)
	w.collect()
	if _, ok := w.view().Get(catalog.EndedKey(s.n)); ok {
		t.Error("it is looked at for ever")
	}
	// What comes even later is found by a full collection.
	w.put(late.Key(), []byte("later"))
	w.opt.Full, w.opt.Cutoff = true, 0
	w.pass(48 * time.Hour)
	w.collect()
	if left := w.packsThere(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

// spread makes packs sparse: every fourth chunk of them is needed.
func (w *world) sparse() {
	w.t.Helper()
	a := w.backup("1", chunks("a", 0, 40)...)
	var some []string
	for i := 0; i < 40; i += 4 {
		some = append(some, fmt.Sprint("a", i))
	}
	w.backup("1", some...)
	w.forget(a)
}

func TestSparsePacksAreWrittenAnewThroughManyMoves(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	w.sparse()
	before := w.packsThere()
	if st := w.collect(); st.RemovedBytes == 0 || st.DiskChunks != 10 || st.DiskBytes > 11<<10 {
		t.Fatalf("%+v", st)
	}
	if after := w.packsThere(); len(after) != 2 || len(before) < 5 {
		t.Fatalf("packs %v became %v", before, after)
	}
	w.check()
	// Of what moved little is needed by others, again and again.
	keep := w.backup("2", "a4", "a36")
	for key := range w.view().Scan(catalog.SnapshotPrefix + "|vm/1/") {
		n, err := catalog.ParseSnapshotKey(key)
		if err != nil {
			t.Fatal(err)
		}
		w.forget(n)
	}
	for range 3 {
		w.collect()
		w.check()
	}
	if st := w.collect(); st.DiskChunks != 2 || st.DiskBytes > 3<<10 {
		t.Fatalf("%+v", st)
	}
	w.pass(time.Minute)
	s := w.begin("2").add("a4", "a36")
	if s.sent != 0 {
		t.Errorf("%d chunks were sent again that had moved", s.sent)
	}
	s.commit()
	w.forget(keep)
	w.collect()
	w.audit()
	w.check()
}

func TestADamagedPackStaysAsItIs(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	w.sparse()
	var last string
	for _, key := range w.packsThere() {
		last = key
		w.overwrite(key, func(b []byte) []byte { b[20] ^= 1; return b })
		break
	}
	got := w.warnings()
	if len(got) != 1 || !strings.Contains(got[0], "stays as it is") {
		t.Fatalf("%q", got)
	}
	if !slices.Contains(w.packsThere(), last) {
		t.Fatal("it is gone")
	}
}

func TestTheSoundCopyOfADamagedChunkIsNeeded(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	key := catalog.BadKey(digestOf("a3"))
	w.must(func(tx catalog.Tx) error { return catalog.Set(tx, key, catalog.Bad{}) })
	s := w.begin("2")
	d := digestOf("a3")
	s.places[d] = s.store(d, encode(t, plain("a3")))
	s.add(chunks("c", 0, 20)...)
	healer := s.commit()
	bad, _, err := catalog.Get[catalog.Bad](w.view(), key)
	if err != nil || bad.Lost() {
		t.Fatalf("%+v, %v", bad, err)
	}
	w.collect()
	w.forget(healer)
	for range 3 {
		w.collect()
	}
	sound := w.resolve(w.view(), bad.Place())
	if _, err := w.store.Stat(t.Context(), sound.Pack.Key()); err != nil {
		t.Fatalf("the sound copy is gone: %v", err)
	}
	if st := w.collect(); st.StillBad != 1 || st.RemovedBad != 0 {
		t.Fatalf("%+v", st)
	}
	w.audit()
	w.forget(a)
	w.opt.Full = true
	if st := w.collect(); st.StillBad != 0 || st.RemovedBad != 1 {
		t.Fatalf("after nobody needs it: %+v", st)
	}
	w.opt.Full = false
	for range 3 {
		w.collect()
	}
	if left := w.packsThere(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

func TestASessionThatIsDeadIsEnded(t *testing.T) {
	w := newWorld(t, nil)
	s := w.begin("1").add("a")
	w.deadCollections()
	over := w.opt.Over
	w.opt.Over = func(ctx context.Context, r catalog.Running) (bool, time.Time, error) {
		if r.Number == s.n {
			return true, time.Time{}, nil
		}
		return over(ctx, r)
	}
	w.collect()
	if err := s.tryCommit(); !errors.Is(err, catalog.ErrFenced) {
		t.Fatalf("%v", err)
	}
	w.collect()
	if left := w.packsThere(); len(left) != 0 {
		t.Fatalf("left: %v", left)
	}
}

func TestACollectionThatWasEndedByOthersMakesNothingTrue(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	w.forget(a)
	before := w.view().Seq()
	_, err := Run(t.Context(), &ending{w.store, w}, w.log, w.opt)
	if !errors.Is(err, catalog.ErrFenced) {
		t.Fatalf("%v", err)
	}
	if len(w.packsThere()) == 0 || w.view().Seq() > before+2 {
		t.Fatal("something was removed or changed")
	}
	w.collect()
}

// Others that ended a collection, because it slept, merge the indexes that it is about to
// read, and remove them.
func TestACollectionThatOthersEndedSaysSoAndNotWhatItMisses(t *testing.T) {
	for _, ended := range []bool{true, false} {
		w := newWorld(t, nil)
		w.opt.Cutoff = 0
		w.backup("1", chunks("a", 0, 20)...)
		w.backup("1", chunks("b", 0, 20)...)
		_, err := Run(t.Context(), &asleep{Store: w.store, w: w, ended: ended}, w.log, w.opt)
		if !errors.Is(err, catalog.ErrFenced) == ended || !strings.Contains(fmt.Sprint(err), "/i00000000") {
			t.Errorf("ended: %v: %v", ended, err)
		}
		if !ended && !errors.Is(err, objstore.ErrNotFound) {
			t.Errorf("an index that is lost: %v", err)
		}
	}
}

// asleep stops a collection before it reads an index; meanwhile another one takes its place,
// or the index is lost.
type asleep struct {
	objstore.Store
	w     *world
	ended bool
	woken bool
}

func (a *asleep) Get(ctx context.Context, key string, off, n int64) (objstore.Object, error) {
	if strings.Contains(key, "/i") && !a.woken {
		a.woken = true
		if !a.ended {
			return objstore.Object{}, errors.Join(a.Store.Delete(ctx, []string{key}), objstore.ErrNotFound)
		}
		a.w.deadCollections()
		a.w.collect()
	}
	return a.Store.Get(ctx, key, off, n)
}

// ending ends the collection when it stores its first counts.
type ending struct {
	objstore.Store
	w *world
}

func (e *ending) Put(ctx context.Context, key string, body objstore.Body, o objstore.PutOptions) (objstore.Info, error) {
	if strings.Contains(key, "/r") {
		e.w.must(func(tx catalog.Tx) error {
			all, err := catalog.Sessions(tx)
			for _, s := range all {
				err = errors.Join(err, catalog.End(tx, s.Number))
			}
			return err
		})
	}
	return e.Store.Put(ctx, key, body, o)
}
