package synthetic_test

import (
	"context"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/synthetic"
)

// collect makes a collection and says what it cost.
func collect(t testing.TB, r *synthetic.Repository) meter.Counts {
	t.Helper()
	m := meter.New(r.Store())
	l, err := r.Open(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	opened := m.Counts()
	st, err := r.Collect(t.Context(), m, l)
	if err != nil || len(st.Warnings) > 0 {
		t.Fatalf("%v, warnings %v", err, st.Warnings)
	}
	return m.Counts().Since(opened)
}

// A collection costs what changed, not what is there.
func TestTheCostOfACollectionFollowsTheChange(t *testing.T) {
	shape := synthetic.Shape{Groups: 10, Snapshots: 30, Chunks: 505, Changed: 5}
	r, err := synthetic.New(t.Context(), shape)
	if err != nil {
		t.Fatal(err)
	}
	first := collect(t, r)
	if n := first.Total(); n < 300 {
		t.Fatalf("the first one makes %d requests for 300 snapshots", n)
	}
	idle := collect(t, r)
	if n := idle.Total(); n > 25 || idle.Down > first.Down/20 {
		t.Errorf("nothing changed: %d requests, %d bytes of %d", n, idle.Down, first.Down)
	}
	backup(t, r, 1)
	one := collect(t, r)
	if n := one.Total(); n > 40 || one.Down > first.Down/20 {
		t.Errorf("one snapshot more: %d requests, %d bytes of %d", n, one.Down, first.Down)
	}
	backup(t, r, 10)
	ten := collect(t, r)
	if n := ten.Total(); n > 80 || ten.Down > first.Down/10 {
		t.Errorf("ten snapshots more: %d requests, %d bytes of %d", n, ten.Down, first.Down)
	}
}

func backup(t testing.TB, r *synthetic.Repository, n int) {
	t.Helper()
	for g := range n {
		if err := r.Backup(context.WithoutCancel(t.Context()), g); err != nil {
			t.Fatal(err)
		}
	}
}
