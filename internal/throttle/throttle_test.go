package throttle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/throttle"
)

func TestWaitHoldsTheRateForAllCallersTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, callers, perSecond = 8 << 20, 4, 4 << 20
		l := throttle.New(perSecond)
		start := time.Now()
		done := make(chan error)
		for range callers {
			go func() { done <- l.Wait(t.Context(), each) }()
		}
		for range callers {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		took, want := time.Since(start).Seconds(), float64(each*callers)/perSecond
		if took < want-0.2 || took > want+0.2 {
			t.Fatalf("took %.2f s, want %.2f", took, want)
		}
	})
}

func TestWaitEndsWithTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		enough := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(enough) })
		start := time.Now()
		if err := throttle.New(1).Wait(ctx, 1<<20); !errors.Is(err, enough) {
			t.Fatalf("got %v", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Fatalf("returned after %v", d)
		}
	})
}

func TestNoRateNeverWaits(t *testing.T) {
	if err := throttle.New(0).Wait(t.Context(), 1<<40); err != nil {
		t.Fatal(err)
	}
}
