package meter_test

import (
	"context"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
)

func TestAMeteredStoreKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(*testing.T) objstore.Store {
		return meter.New(mem.New(time.Now, true))
	})
}

func TestEveryRequestIsCountedOnceByItsKind(t *testing.T) {
	ctx := t.Context()
	s := meter.New(mem.New(time.Now, true))
	put := func(key, body string, c objstore.Condition) {
		_, _ = s.Put(ctx, key, strings.NewReader(body), objstore.PutOptions{If: c})
	}
	put("a", "12345", objstore.IfAbsent)
	put("a", "123", objstore.IfAbsent) // an answer, and paid for
	put("", "x", objstore.IfAbsent)    // no request
	if _, _, err := objstore.ReadAll(ctx, s, "a", 10); err != nil {
		t.Fatal(err)
	}
	if err := objstore.ReadAt(ctx, s, "a", make([]byte, 2), 1); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Stat(ctx, "none")
	_, _, _ = s.List(ctx, "", "", 1)
	_, _, _ = s.List(ctx, "", "", 1)
	_ = s.Retain(ctx, "none", objstore.Retention{Mode: objstore.Governance, Until: time.Now()})
	_ = s.Delete(ctx, []string{"a", "b"})
	_ = s.Delete(ctx, make([]string, objstore.MaxDelete+1))

	var want meter.Counts
	want.Requests[meter.Put], want.Requests[meter.Get], want.Requests[meter.Stat] = 2, 2, 1
	want.Requests[meter.List], want.Requests[meter.Retain], want.Requests[meter.Delete] = 2, 1, 1
	want.Up, want.Down = 8, 7
	if got := s.Counts(); got != want || got.Total() != 9 {
		t.Errorf("%+v, %d in all, want %+v", got, got.Total(), want)
	}
	before := s.Counts()
	put("c", "x", objstore.IfAbsent)
	if d := s.Counts().Since(before); d.Total() != 1 || d.Up != 1 || d.Down != 0 {
		t.Errorf("one more: %+v", d)
	}
}

// says is a store whose every Stat fails so.
type says struct {
	objstore.Store
	err error
}

func (s says) Stat(context.Context, string) (objstore.Info, error) { return objstore.Info{}, s.err }

func TestAnswersAreNoFailures(t *testing.T) {
	for _, tc := range []struct {
		err          error
		busy, failed int64
	}{
		{nil, 0, 0},
		{objstore.ErrNotFound, 0, 0},
		{objstore.ErrDenied, 0, 0},
		{&objstore.BusyError{Err: io.EOF}, 1, 0},
		{errors.New("connection reset"), 0, 1},
		{context.Canceled, 0, 1},
	} {
		s := meter.New(says{nil, tc.err})
		_, _ = s.Stat(t.Context(), "x")
		if c := s.Counts(); c.Busy != tc.busy || c.Failed != tc.failed || c.Total() != 1 {
			t.Errorf("%v: %+v", tc.err, c)
		}
	}
}

func TestCountsHoldWhenManyAsk(t *testing.T) {
	s := meter.New(mem.New(time.Now, false))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 50 {
				_, _, _ = s.List(t.Context(), "", "", 1)
				_ = s.Counts()
			}
		})
	}
	wg.Wait()
	if n := s.Counts().Total(); n != 1000 {
		t.Errorf("%d requests of 1000", n)
	}
}

func TestCostFollowsThePrices(t *testing.T) {
	var c meter.Counts
	c.Requests[meter.Put], c.Requests[meter.Get], c.Requests[meter.Delete] = 2000, 10_000, 500
	c.Up, c.Down = 3<<30, 2<<30
	p, err := meter.ParsePrices("put=0.01, get=0.001,delete=0.02,up=1,down=0.5")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Cost(c), 0.02+0.01+0.01+3+1; math.Abs(got-want) > 1e-9 {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := meter.Usual().Cost(c), 0.01+0.004+0.18; math.Abs(got-want) > 1e-9 {
		t.Errorf("at the usual prices: %v, want %v", got, want)
	}
}

func TestPricesRefuse(t *testing.T) {
	for _, text := range []string{"", "put", "put=", "put=x", "put=-1", "put=NaN", "put=inf", "post=1", "put=1,,get=1"} {
		if p, err := meter.ParsePrices(text); !errors.Is(err, meter.ErrPrices) {
			t.Errorf("%q: %+v, %v", text, p, err)
		}
	}
}
