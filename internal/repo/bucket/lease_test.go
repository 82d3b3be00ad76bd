package bucket_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore/mem"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

func at(w *world, id string, hours int64) names.Snapshot {
	return names.Snapshot{Group: names.Group{Type: names.VM, ID: id}, Time: w.clock.now().Unix() + hours*3600}
}

func TestWhoFindsASessionInTheWayIsToldWhoseItIs(t *testing.T) {
	w := newWorld(t)
	ses, err := w.open(w.store).Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 0)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.open(w.store).Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 1)})
	if !errors.Is(err, repo.ErrLocked) {
		t.Fatalf("err = %v", err)
	}
	for _, want := range []string{"vm/100", "process 1 on a", "2026-03-01T12:10:00Z"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if err := ses.Abort(); err != nil {
		t.Error(err)
	}
}

// A process that slept for longer than its lease wakes up, and everything it knows is
// over.
func TestSessionWhoseLeaseIsOverIsEndedAndCommitsNothing(t *testing.T) {
	w := newWorld(t)
	c := contract.NewClient(t)
	what := contract.Random(rand.New(rand.NewPCG(1, 1)), 20)
	asleep, err := w.open(w.store).Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 0)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.WriteAll(t.Context(), asleep, what)
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(bucket.DefaultLease + time.Second)
	n := at(w, "100", 0)
	if err := c.Backup(t.Context(), w.open(w.store), n, what); err != nil {
		t.Fatalf("the lease is over: %v", err)
	}
	err = asleep.Finish(t.Context(), m)
	if !errors.Is(err, catalog.ErrFenced) || !strings.Contains(err.Error(), "nothing of it is kept") {
		t.Errorf("err = %v", err)
	}
	if err := asleep.Abort(); err != nil {
		t.Error(err)
	}
	infos, err := w.open(w.store).Snapshots(t.Context(), "", nil)
	if err != nil || len(infos) != 1 || infos[0].Snapshot != n {
		t.Errorf("%+v, %v", infos, err)
	}
}

func TestSessionThatGivesSignsOfLifeIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New(time.Now, false)
		alive := func(catalog.Process) bool { return false }
		o := bucket.Options{Dead: alive}
		if err := bucket.Create(t.Context(), store, bucket.CreateOptions{Options: o, PackSize: packSize}); err != nil {
			t.Fatal(err)
		}
		r, err := bucket.Open(t.Context(), store, o)
		if err != nil {
			t.Fatal(err)
		}
		c := contract.NewClient(t)
		n := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: time.Now().Unix()}
		ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: n})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*bucket.DefaultLease + time.Minute)
		n.Time = time.Now().Unix()
		if _, err := r.Begin(t.Context(), repo.Begin{Snapshot: n}); !errors.Is(err, repo.ErrLocked) {
			t.Errorf("it lives: %v", err)
		}
		if err := c.Write(t.Context(), ses, contract.Random(rand.New(rand.NewPCG(1, 1)), 3)); err != nil {
			t.Error(err)
		}
		for _, prefix := range []string{catalog.LeasePrefix, "clock/"} {
			list, _, err := store.List(t.Context(), prefix, "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range list {
				t.Errorf("%s is left", i.Key)
			}
		}
	})
}

func TestSessionOfADeadProcessOfThisHostIsEndedAtOnce(t *testing.T) {
	w := newWorld(t)
	n := at(w, "100", 0)
	ses, err := w.open(w.store).Begin(t.Context(), repo.Begin{Snapshot: n})
	if err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.Dead = func(p catalog.Process) bool { return p == catalog.Process{Host: "a", PID: 1} }
	r, err := bucket.Open(t.Context(), w.store, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := contract.NewClient(t).Backup(t.Context(), r, at(w, "100", 1), contract.Random(rand.New(rand.NewPCG(1, 1)), 3)); err != nil {
		t.Error(err)
	}
	if err := ses.Abort(); err != nil {
		t.Error(err)
	}
}

// Leases are judged by the clock of the store, so nobody's own ends a session or keeps it.
func TestAWrongClockEndsNoSessionAndKeepsNone(t *testing.T) {
	for _, skew := range []time.Duration{-48 * time.Hour, 48 * time.Hour} {
		w := newWorld(t)
		if _, err := w.open(w.store).Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 0)}); err != nil {
			t.Fatal(err)
		}
		o := w.options()
		o.Now = func() time.Time { return w.clock.now().Add(skew) }
		other, err := bucket.Open(t.Context(), w.store, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = other.Close() })
		if _, err := other.Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 1)}); !errors.Is(err, repo.ErrLocked) {
			t.Errorf("a clock is wrong by %v: %v, and the session lives", skew, err)
		}
		w.clock.advance(bucket.DefaultLease + time.Second)
		ses, err := other.Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 1)})
		if err != nil {
			t.Fatalf("a clock is wrong by %v: %v, and the lease is over", skew, err)
		}
		if err := ses.Abort(); err != nil {
			t.Error(err)
		}
	}
}
