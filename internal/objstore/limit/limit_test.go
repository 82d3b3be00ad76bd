package limit_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/limit"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
)

func TestALimitedStoreKeepsWhatAnObjectStorePromises(t *testing.T) {
	for _, most := range []int{1, 64} {
		objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(*testing.T) objstore.Store {
			return limit.New(mem.New(time.Now, true), limit.Options{First: 1, Most: most})
		})
	}
}

// engine answers each Stat after a second, and is busy when more come at once
// than it can do.
type engine struct {
	objstore.Store
	can int

	mu           sync.Mutex
	flying, peak int
	done, busy   int
}

func (e *engine) Stat(ctx context.Context, _ string) (objstore.Info, error) {
	e.mu.Lock()
	e.flying++
	e.peak = max(e.peak, e.flying)
	busy := e.flying > e.can
	e.mu.Unlock()
	err := cancel.Sleep(ctx, time.Second)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flying--
	if busy {
		e.busy++
		return objstore.Info{}, &objstore.BusyError{Err: errors.New("slow down")}
	}
	e.done++
	return objstore.Info{}, err
}

// ask has so many workers make so many requests each.
func ask(t *testing.T, s objstore.Store, workers, each int) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				_, _ = s.Stat(t.Context(), "x")
			}
		})
	}
	wg.Wait()
}

func TestNoMoreRequestsThanAllowedAreOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{can: 1000}
		s := limit.New(e, limit.Options{First: 1, Most: 7})
		ask(t, s, 50, 4)
		if e.peak != 7 || e.done != 200 {
			t.Errorf("%d at once, %d of 200 done", e.peak, e.done)
		}
	})
}

func TestRequestsGrowByOneARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{can: 1000}
		s := limit.New(e, limit.Options{First: 4, Most: 100})
		start := time.Now()
		ask(t, s, 50, 2) // 4, 5, 6, ... a second
		if d := time.Since(start); d < 10*time.Second || d > 13*time.Second {
			t.Errorf("100 requests took %v", d)
		}
	})
}

func TestABusyStoreIsAskedForHalfAndOnceForAllOfARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{can: 0}
		s := limit.New(e, limit.Options{First: 64, Most: 64})
		ask(t, s, 64, 1)
		if w := s.Window(); w != 32 {
			t.Errorf("after one round of refusals %d may be on their way, want 32", w)
		}
		ask(t, s, 1, 10)
		if w := s.Window(); w != 1 {
			t.Errorf("after ten more %d, want 1", w)
		}
		e.can = 1
		ask(t, s, 10, 1)
		if e.done == 0 {
			t.Error("nothing goes on")
		}
	})
}

func TestRequestsSettleAtWhatTheStoreCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{can: 20}
		s := limit.New(e, limit.Options{First: 128, Most: 128})
		ask(t, s, 128, 4) // learns
		e.busy, e.done, e.peak = 0, 0, 0
		ask(t, s, 128, 20)
		if e.peak > 25 || e.busy*10 > e.done {
			t.Errorf("%d at once where 20 are possible, %d refused, %d done", e.peak, e.busy, e.done)
		}
	})
}

func TestWhoLeavesTheQueueHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &engine{can: 1}
		s := limit.New(e, limit.Options{First: 1, Most: 1})
		gone := errors.New("gone")
		ctx, leave := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for i := range 9 {
			wg.Go(func() {
				mine := t.Context()
				if i%2 == 1 {
					mine = ctx
				}
				_, err := s.Stat(mine, "x")
				if err != nil && (i%2 == 0 || !errors.Is(err, gone)) {
					t.Errorf("%d: %v", i, err)
				}
			})
		}
		synctest.Wait()
		leave(gone)
		wg.Wait()
		if e.busy != 0 || e.done < 5 {
			t.Errorf("%d done, %d refused", e.done, e.busy)
		}
	})
}

// Who merges objects has all of them open.
func TestObjectsThatAreReadDoNotHoldUpOthers(t *testing.T) {
	m := mem.New(time.Now, false)
	s := limit.New(m, limit.Options{First: 1, Most: 1})
	for _, key := range []string{"a", "b", "c"} {
		if _, err := s.Put(t.Context(), key, body("x"), objstore.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a", "b", "c"} {
		o, err := s.Get(t.Context(), key, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = o.Close() }()
		defer func() { _, _ = io.ReadAll(o) }()
	}
}
