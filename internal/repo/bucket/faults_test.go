package bucket_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore/faulty"
	"github.com/holdfast-backup/holdfast/internal/objstore/limit"
	"github.com/holdfast-backup/holdfast/internal/objstore/retry"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// A repository over a store that is busy in storms, loses calls and answers, cuts bodies
// short, does changes once more at a later time, takes its time and lists what was: who
// tries again notices nothing.
func TestARepositorySeesThroughTheFaultsOfAStore(t *testing.T) {
	t.Parallel()
	var all faulty.Counts
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all = sumOf(all, throughFaults(t, seed))
			})
		})
	}
	if all.Busy < 20 || all.Lost < 20 || all.Mute < 20 || all.Twice < 20 || all.Cut < 20 || all.Stale < 20 {
		t.Errorf("there were not enough faults: %+v", all)
	}
}

func sumOf(a, b faulty.Counts) faulty.Counts {
	return faulty.Counts{
		Busy: a.Busy + b.Busy, Lost: a.Lost + b.Lost, Mute: a.Mute + b.Mute,
		Twice: a.Twice + b.Twice, Cut: a.Cut + b.Cut, Stale: a.Stale + b.Stale,
	}
}

func throughFaults(t *testing.T, seed uint64) faulty.Counts {
	w := newWorld(t)
	plan := faulty.Rough
	plan.Stale, plan.Lag, plan.Delay = 0.3, 4, time.Second
	f := faulty.New(w.store, seed, plan)
	s := retry.New(limit.New(f, limit.Options{First: 4, Most: 8}), retry.Options{Tries: 40, First: time.Second, Longest: 10 * time.Second})
	r, err := bucket.Open(t.Context(), s, w.options())
	if err != nil {
		t.Fatal(err)
	}
	client := contract.NewClient(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	what := contract.Random(rng, 8)
	kept := map[names.Snapshot]contract.Content{}
	var list []names.Snapshot
	for round := range 6 {
		w.clock.advance(30 * time.Hour)
		n := names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: w.clock.now().Unix()}
		if err := client.Backup(t.Context(), r, n, what); err != nil {
			t.Fatalf("backup %d: %v", round, err)
		}
		kept[n], list = what, append(list, n)
		what = what.Changed(rng)
		if len(list) > 3 {
			if err := r.Forget(t.Context(), list[0]); err != nil {
				t.Fatal(err)
			}
			delete(kept, list[0])
			list = list[1:]
		}
		if _, err := r.GC(t.Context(), repo.GCOptions{Cutoff: 24 * time.Hour}); err != nil {
			t.Fatalf("collection %d: %v", round, err)
		}
		for n, want := range kept {
			if got, err := client.Restore(t.Context(), r, n); err != nil || !got.Equal(want) {
				t.Fatalf("round %d: %s: %v", round, n, err)
			}
		}
	}
	counts := f.Counts()
	f.Calm(t.Context()) // what is late arrives
	again := w.open(w.store)
	infos, err := again.Snapshots(t.Context(), names.Root, nil)
	if err != nil || len(infos) != len(kept) {
		t.Errorf("%d snapshots, want %d, %v", len(infos), len(kept), err)
	}
	for n, want := range kept {
		if got, err := client.Restore(t.Context(), again, n); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v", n, err)
		}
	}
	return counts
}
