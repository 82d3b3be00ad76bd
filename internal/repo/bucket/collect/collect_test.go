package collect

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

func TestWhatSnapshotsNeedStaysAndWhatNobodyNeedsGoesAfterTheGraceTime(t *testing.T) {
	w := newWorld(t, nil)
	a := w.backup("1", chunks("a", 0, 20)...)
	w.backup("1", append(chunks("a", 0, 10), chunks("b", 0, 10)...)...)
	w.backup("2", chunks("a", 5, 8)...)
	if st := w.collect(); st.DiskChunks != 30 || st.PendingBytes != 0 || st.IndexFiles != 3 || st.IndexDataBytes != 43000 {
		t.Fatalf("%+v", st)
	}
	w.forget(a)
	st := w.collect()
	if st.DiskChunks != 20 || st.PendingChunks == 0 || st.RemovedChunks != 0 {
		t.Fatalf("after it was forgotten: %+v", st)
	}
	w.check()
	before := len(w.packsThere())
	w.pass(23 * time.Hour)
	if st := w.collect(); st.RemovedChunks != 0 || len(w.packsThere()) != before {
		t.Fatalf("before the grace time was over: %+v", st)
	}
	w.pass(2 * time.Hour)
	if st := w.collect(); st.RemovedChunks == 0 || st.PendingChunks != 0 || len(w.packsThere()) >= before {
		t.Fatalf("after the grace time: %+v, %d of %d packs are left", st, len(w.packsThere()), before)
	}
	w.check()
	w.audit()
}

func TestNothingIsLeftOfARepositoryWithoutSnapshots(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	b := w.backup("2", chunks("b", 0, 20)...)
	w.collect()
	w.forget(a)
	w.collect()
	w.collect()
	w.check()
	w.forget(b)
	for range 4 {
		w.collect()
	}
	if left := w.keys("s/"); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	for key := range w.view().Scan("") {
		if key != catalog.MetaKey && key != catalog.GCKey {
			t.Errorf("record %s is left", key)
		}
	}
}

func TestADryRunChangesNothingAndTellsWhatWouldBe(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	w.backup("2", chunks("b", 0, 20)...)
	w.forget(a)
	seq, keys := w.view().Seq(), w.keys("")
	w.opt.DryRun = true
	st := w.collect()
	if w.view().Seq() != seq || !slices.Equal(w.keys(""), keys) {
		t.Fatalf("something changed: %v, then %v", keys, w.keys(""))
	}
	w.opt.DryRun = false
	if got := w.collect(); got.RemovedBytes != st.RemovedBytes || got.RemovedBytes == 0 || got.DiskBytes != st.DiskBytes {
		t.Fatalf("said %+v, did %+v", st, got)
	}
}

func TestASessionThatRanWhenItsBaseWasForgottenFindsItsChunks(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	w.pass(time.Hour)
	s := w.begin("1").add(chunks("a", 0, 20)...)
	w.forget(a)
	for range 3 {
		w.collect()
		w.pass(48 * time.Hour)
	}
	if s.sent != 0 {
		t.Fatalf("%d chunks were sent again", s.sent)
	}
	s.commit()
	w.check()
	for range 3 {
		w.collect()
		w.check()
	}
	w.audit()
	if n := len(w.packsThere()); n != 3 {
		t.Fatalf("%d packs", n)
	}
}

func TestASessionThatBeganAfterACondemnationSendsAgain(t *testing.T) {
	w := newWorld(t, nil)
	a := w.backup("1", chunks("a", 0, 20)...)
	w.forget(a)
	w.collect()
	s := w.begin("2").add(chunks("a", 0, 20)...)
	if s.sent != 20 {
		t.Fatalf("%d were sent", s.sent)
	}
	w.pass(48 * time.Hour)
	w.collect()
	s.commit()
	w.collect()
	w.check()
	w.audit()
}

func TestACommitThatNeedsWhatIsRemovedIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	b := w.begin("2").add(chunks("a", 0, 20)...)
	b.finish()
	w.must(func(tx catalog.Tx) error { return catalog.End(tx, b.n) })
	w.forget(a)
	w.collect()
	s := w.begin("4")
	s.places, s.sizes = b.places, b.sizes // it breaks the rules: this is older than its number
	if err := s.tryCommit(); !errors.Is(err, catalog.ErrRemoved) {
		t.Fatalf("%v", err)
	}
	for range 2 {
		w.collect()
	}
}

func TestTwoCollectionsAtOnceAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	first := catalog.Number(w.must(func(tx catalog.Tx) error {
		_, err := catalog.Begin(tx, catalog.Request{Session: catalog.Session{Kind: catalog.GC}})
		return err
	}))
	_, err := Run(t.Context(), w.store, w.log, w.opt)
	if locked, ok := errors.AsType[*catalog.LockedError](err); !ok || locked.Session.Number != first || !errors.Is(err, repo.ErrLocked) {
		t.Fatalf("%v", err)
	}
}

func TestSignsOfLifeOfSessionsThatEndedAreRemoved(t *testing.T) {
	w := newWorld(t, nil)
	sign := func(s *session) string {
		key := catalog.LeaseKey(s.n, 0)
		w.put(key, nil)
		return key
	}
	done := w.begin("1").add("a")
	sign(done)
	done.commit()
	failed := w.begin("2")
	sign(failed)
	w.must(func(tx catalog.Tx) error { return catalog.End(tx, failed.n) })
	runs := w.begin("3")
	key := sign(runs)
	w.collect()
	if left := w.keys(catalog.LeasePrefix); !slices.Equal(left, []string{key}) {
		t.Errorf("left: %v", left)
	}
}
