package collect

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

const day = 24 * time.Hour

// watched counts retentions, and refuses removals if it is told to.
type watched struct {
	objstore.Store
	deny bool

	mu       sync.Mutex
	retained map[string]int
	removed  []string
}

func (s *watched) Retain(ctx context.Context, key string, r objstore.Retention) error {
	err := s.Store.Retain(ctx, key, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.retained[key]++
	}
	return err
}

func (s *watched) Delete(ctx context.Context, keys []string) error {
	if s.deny {
		return fmt.Errorf("%w: these credentials may not remove", objstore.ErrDenied)
	}
	err := s.Store.Delete(ctx, keys)
	s.removed = append(s.removed, keys...)
	return err
}

func locked(t *testing.T, days int) (*world, *watched) {
	t.Helper()
	w := newWorld(t, &catalog.Retention{Mode: "compliance", Days: days})
	s := &watched{Store: w.store, retained: map[string]int{}}
	w.store = s
	return w, s
}

// needed are the keys of everything without which a repository could not be read.
func (w *world) neededKeys() (all []string) {
	w.t.Helper()
	at, err := look(w.view())
	if err != nil {
		w.t.Fatal(err)
	}
	at.dead = nil // what is on lists is not
	for key := range (&collector{at: at, before: &packrefs.Root{}}).named() {
		if !strings.HasSuffix(key, "/log") {
			all = append(all, key)
		}
	}
	return append(all, w.packsThere()...)
}

// Whoever may remove everything that is not locked removes nothing that is needed, for as long as
// somebody collects.
func TestNothingThatIsNeededIsEverWithoutALock(t *testing.T) {
	w, s := locked(t, 30)
	a := w.backup("1", chunks("a", 0, 20)...)
	w.backup("2", chunks("b", 0, 20)...)
	w.collect()
	begin, objects := w.now, 0
	for range 20 {
		w.pass(5 * day)
		w.collect()
		keys := w.neededKeys()
		objects = max(objects, len(keys))
		for _, key := range keys {
			if err := s.Store.Delete(t.Context(), []string{key}); err == nil {
				t.Fatalf("after %s object %s can be removed", w.now.Sub(begin), key)
			}
		}
		w.check()
	}
	total := 0
	for key, n := range s.retained {
		if total += n; n > 8 {
			t.Errorf("the lock of %s was prolonged %d times in 100 days", key, n)
		}
	}
	if limit := 7 * (objects + 64); total > limit {
		t.Errorf("%d requests for %d objects in 100 days", total, objects)
	}
	// What nobody needs any more is not prolonged, and goes when its lock ends.
	w.forget(a)
	for range 9 {
		w.pass(5 * day)
		w.collect()
	}
	if left := w.packsThere(); len(left) != 3 {
		t.Errorf("packs %v", left)
	}
	w.check()
}

func TestNothingIsRemovedBeforeItsLockEnds(t *testing.T) {
	w, s := locked(t, 10)
	w.opt.Cutoff = 0
	a := w.backup("1", chunks("a", 0, 20)...)
	w.collect()
	w.forget(a)
	until := w.now.Add(10 * day)
	for w.now.Before(until) {
		w.collect()
		w.pass(day)
	}
	if n := len(w.packsThere()); n != 3 {
		t.Fatalf("%d packs are left", n)
	}
	for _, key := range s.removed {
		if !strings.HasPrefix(key, "clock/") {
			t.Fatalf("%s was removed", key)
		}
	}
	w.pass(2 * day)
	w.collect()
	if left := w.packsThere(); len(left) != 0 {
		t.Fatalf("packs %v are left", left)
	}
}

func TestALongerRetentionIsGivenToEverything(t *testing.T) {
	w, s := locked(t, 10)
	w.backup("1", chunks("a", 0, 20)...)
	w.collect()
	w.must(func(tx catalog.Tx) error {
		m, _, err := catalog.Get[catalog.Meta](tx, catalog.MetaKey)
		if err != nil {
			return err
		}
		m.Retention.Days = 90
		return catalog.Set(tx, catalog.MetaKey, m)
	})
	w.collect()
	w.pass(80 * day)
	for _, key := range w.neededKeys() {
		if err := s.Store.Delete(t.Context(), []string{key}); err == nil {
			t.Errorf("after 80 days object %s can be removed", key)
		}
	}
}

func TestCredentialsThatMayNotRemoveLeaveTheRestSound(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Cutoff = 0
	strict := &watched{Store: w.store, retained: map[string]int{}, deny: true}
	l, err := ledger.Open(t.Context(), strict, ledger.Options{Who: "strict", Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	a := w.backup("1", chunks("a", 0, 20)...)
	w.backup("2", chunks("b", 0, 20)...)
	w.forget(a)
	before := len(w.packsThere())
	for range 2 {
		st, err := Run(t.Context(), strict, l, w.opt)
		if err != nil || len(st.Warnings) != 1 || !strings.Contains(st.Warnings[0], "may not remove") {
			t.Fatalf("%v, %q", err, st.Warnings)
		}
		if st.RemovedBytes != 0 || len(w.packsThere()) != before {
			t.Fatalf("%+v", st)
		}
		w.check()
		w.backup("3", chunks("a", 0, 2)...)
		before = len(w.packsThere())
	}
	st := w.collect()
	if st.RemovedBytes == 0 {
		t.Fatalf("who may remove removes nothing: %+v", st)
	}
	w.collect()
	w.check()
	w.audit()
}

func TestARefusedLockIsTold(t *testing.T) {
	w, s := locked(t, 10)
	w.backup("1", "a")
	w.collect()
	w.pass(6 * day)
	_, err := Run(t.Context(), &refusing{s}, w.log, w.opt)
	if err != nil {
		t.Fatal(err)
	}
	w.collect() // nothing was taken for prolonged
	w.pass(5 * day)
	for _, key := range w.packsThere() {
		if err := s.Store.Delete(t.Context(), []string{key}); !isDenied(err) {
			t.Fatalf("%s: %v", key, err)
		}
	}
}

func isDenied(err error) bool {
	left, ok := errors.AsType[objstore.DeleteError](err)
	return ok && len(left) == 1
}

type refusing struct{ objstore.Store }

func (refusing) Retain(context.Context, string, objstore.Retention) error {
	return fmt.Errorf("%w: no right to that", objstore.ErrDenied)
}
