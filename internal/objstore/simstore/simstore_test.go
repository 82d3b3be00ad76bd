package simstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest"
	"github.com/holdfast-backup/holdfast/internal/objstore/simstore"
)

func TestWithoutFaultsItKeepsWhatAnObjectStorePromises(t *testing.T) {
	objtest.Run(t, objtest.Abilities{IfTag: true, Lock: true}, func(*testing.T) objstore.Store {
		return simstore.New(true, simstore.Options{}).Process("only")
	})
}

func put(ctx context.Context, s objstore.Store, key, body string) error {
	_, err := s.Put(ctx, key, strings.NewReader(body), objstore.PutOptions{If: objstore.IfAbsent})
	return err
}

// story runs three processes that do what they can, and tells what each of them heard.
func story(t *testing.T, seed uint64) string {
	var told [3]strings.Builder
	synctest.Test(t, func(t *testing.T) {
		w := simstore.New(false, simstore.Options{
			Seed: seed, Latency: time.Millisecond, Late: time.Second, Lag: time.Second,
			LostRequest: .1, LostAnswer: .1, Delayed: .1, Doubled: .1, Busy: .1, Cut: .1, Stale: .3,
		})
		var g sync.WaitGroup
		for i := range told {
			p := w.Process(fmt.Sprint(i))
			if i == 2 {
				p.KillAt(20, func() {})
			}
			g.Go(func() {
				for n := range 30 {
					err := put(t.Context(), p, fmt.Sprint("k", n), "body")
					list, _, lerr := p.List(t.Context(), "k", "", 100)
					b, _, rerr := objstore.ReadAll(t.Context(), p, "k0", 10)
					fmt.Fprintln(&told[i], err, len(list), lerr, len(b), rerr)
				}
			})
		}
		g.Wait()
		w.Settle()
	})
	return told[0].String() + told[1].String() + told[2].String()
}

func TestASeedTellsTheSameStoryTwice(t *testing.T) {
	if a, b := story(t, 7), story(t, 7); a != b {
		t.Fatalf("two runs of one seed differ:\n%s\nand\n%s", a, b)
	}
	if story(t, 7) == story(t, 8) {
		t.Fatal("another seed tells the same")
	}
}

// always is a world in which one fault always happens.
func always(o simstore.Options) *simstore.World {
	o.Latency, o.Late, o.Lag = time.Millisecond, time.Minute, time.Minute
	return simstore.New(false, o)
}

func TestWhatIsToldOfACallAndWhatBecameOfIt(t *testing.T) {
	for _, tc := range []struct {
		name      string
		o         simstore.Options
		now, late bool // whether the object is there then
	}{
		{"a lost request", simstore.Options{LostRequest: 1}, false, false},
		{"a lost answer", simstore.Options{LostAnswer: 1}, true, true},
		{"a late request", simstore.Options{Delayed: 1}, false, true},
		{"a busy store", simstore.Options{Busy: 1}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := always(tc.o)
				if err := put(t.Context(), w.Process("p"), "k", "x"); err == nil {
					t.Fatal("the caller is told of nothing")
				}
				if _, err := w.Stat(t.Context(), "k"); (err == nil) != tc.now {
					t.Fatalf("afterwards: %v", err)
				}
				w.Settle()
				if _, err := w.Stat(t.Context(), "k"); (err == nil) != tc.late {
					t.Fatalf("in the end: %v", err)
				}
			})
		})
	}
}

func TestAListingThatLagsKnowsWhatWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := always(simstore.Options{Stale: 1, Seed: 3})
		p := w.Process("p")
		for _, key := range []string{"a", "b"} {
			if err := put(t.Context(), p, key, "x"); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Minute)
		if err := errors.Join(put(t.Context(), p, "c", "x"), p.Delete(t.Context(), []string{"a"})); err != nil {
			t.Fatal(err)
		}
		if list, _, err := p.List(t.Context(), "", "", 10); err != nil || len(list) != 2 || list[0].Key != "a" {
			t.Fatalf("list = %v, %v; want what was before the last changes", list, err)
		}
		time.Sleep(2 * time.Minute)
		if list, _, err := p.List(t.Context(), "", "", 10); err != nil || len(list) != 2 || list[0].Key != "b" {
			t.Fatalf("list = %v, %v; want what has been for longer than listings lag", list, err)
		}
	})
}

func TestNothingLeavesAKilledProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := always(simstore.Options{})
		p := w.Process("p")
		ended := false
		p.KillAt(2, func() { ended = true })
		if err := put(t.Context(), p, "a", "x"); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"b", "c"} {
			if err := put(t.Context(), p, key, "x"); !errors.Is(err, simstore.ErrKilled) {
				t.Fatalf("err = %v", err)
			}
		}
		if _, err := w.Stat(t.Context(), "c"); !errors.Is(err, objstore.ErrNotFound) || !ended || !p.Dead() {
			t.Fatalf("err = %v, ended = %v", err, ended)
		}
	})
}

func TestAPausedProcessHearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := always(simstore.Options{})
		p := w.Process("p")
		p.Pause(time.Hour)
		p.PauseAt(2, 3*time.Hour)
		for _, want := range []time.Duration{time.Hour, 3 * time.Hour} {
			begin := time.Now()
			if err := put(t.Context(), p, fmt.Sprint(want), "x"); err != nil || time.Since(begin) < want {
				t.Fatalf("err = %v after %s, want it after %s", err, time.Since(begin), want)
			}
		}
	})
}
