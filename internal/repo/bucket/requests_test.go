package bucket_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// Many small backups of many machines are the common case, and each request costs
// money and the time that an answer takes.
func TestSmallBackupsTakeFewRequests(t *testing.T) {
	w := newWorld(t)
	m := meter.New(w.store)
	c := contract.NewClient(t)
	what := contract.Random(rand.New(rand.NewPCG(1, 1)), 3)
	count := func(name string, most int64, f func() error) {
		t.Helper()
		before := m.Counts()
		if err := f(); err != nil {
			t.Fatal(err)
		}
		got := m.Counts().Since(before)
		if got.Total() > most {
			t.Errorf("%s takes %d requests, want %d at most: %v", name, got.Total(), most, got.Requests)
		}
	}
	at := func(hours int64) names.Snapshot {
		return names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: w.clock.now().Unix() + hours*3600}
	}
	count("to open a new one", 4, func() error { w.open(m); return nil })
	r := w.open(m)
	count("a first backup", 7, func() error { return c.Backup(t.Context(), r, at(1), what) })
	count("one with nothing new", 6, func() error { return c.Backup(t.Context(), r, at(2), what) })
	what.Image[5]++
	count("one with a few new chunks", 9, func() error { return c.Backup(t.Context(), r, at(3), what) })
	count("a list", 1, func() error { _, err := r.Snapshots(t.Context(), "", nil); return err })
	count("to open one with seven changes", 11, func() error { w.open(m); return nil })
	count("a restore", 8, func() error { _, err := c.Restore(t.Context(), r, at(2)); return err })
	for i := range int64(30) { // each leaves an index
		n := at(4)
		n.ID = fmt.Sprint(200 + i)
		if err := c.Backup(t.Context(), r, n, contract.Random(rand.New(rand.NewPCG(1, uint64(i))), 3)); err != nil {
			t.Fatal(err)
		}
	}
	what.Image[5]++
	other := w.open(m) // a process that has no index in memory
	count("one of many machines", 9, func() error { return c.Backup(t.Context(), other, at(5), what) })
	count("to forget", 2, func() error { return other.Forget(t.Context(), at(1)) })
}
