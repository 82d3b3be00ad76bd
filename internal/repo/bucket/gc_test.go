package bucket_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// What is backed up, forgotten and collected for long restores as it was, and what is open
// meanwhile stays readable.
func TestSnapshotsRestoreThroughManyCollections(t *testing.T) {
	w := newWorld(t)
	r := w.open(w.store)
	client := contract.NewClient(t)
	rng := rand.New(rand.NewPCG(1, 2))
	kept := map[names.Snapshot]contract.Content{}
	latest := map[string]contract.Content{}
	var group []names.Snapshot
	for round := range 40 {
		w.clock.at = w.clock.at.Add(time.Hour)
		id := fmt.Sprint(100 + rng.IntN(3))
		what, ok := latest[id]
		if !ok {
			what = contract.Random(rng, 12)
		} else {
			what = what.Changed(rng)
		}
		n := names.Snapshot{Group: names.Group{Type: names.VM, ID: id}, Time: w.clock.at.Unix()}
		if err := client.Backup(t.Context(), r, n, what); err != nil {
			t.Fatalf("backup %d: %v", round, err)
		}
		kept[n], latest[id] = what, what
		group = append(group, n)
		if len(group) > 8 {
			i := rng.IntN(len(group))
			open, err := r.Open(t.Context(), group[i])
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Forget(t.Context(), group[i]); err != nil {
				t.Fatal(err)
			}
			st := w.collect(r, 24*time.Hour)
			if got, err := client.Read(t.Context(), open); err != nil || !got.Equal(kept[group[i]]) {
				t.Fatalf("round %d: a snapshot that was open when it was forgotten: %v (%+v)", round, err, st)
			}
			_ = open.Close()
			delete(kept, group[i])
			group = append(group[:i], group[i+1:]...)
		}
		if round%5 == 4 {
			w.collect(r, 0)
		}
		for n, want := range kept {
			if got, err := client.Restore(t.Context(), r, n); err != nil || !got.Equal(want) {
				t.Fatalf("round %d: %s: %v", round, n, err)
			}
		}
	}
	for n := range kept {
		if err := r.Forget(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		w.collect(r, 0)
	}
	if left := w.objects("s/"); len(left) != 1 {
		t.Errorf("of a repository without snapshots these objects are left: %v", left)
	}
}

func (w *world) collect(r *bucket.Repository, cutoff time.Duration) repo.GCStatus {
	w.Helper()
	st, err := r.GC(w.Context(), repo.GCOptions{Cutoff: cutoff})
	if err != nil || len(st.Warnings) > 0 {
		w.Fatalf("%v, warnings %v", err, st.Warnings)
	}
	return st
}
