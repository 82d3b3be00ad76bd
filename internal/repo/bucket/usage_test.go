package bucket_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

func TestUsageIsWhatIsStoredBeforeACollectionAndWhatIsInUseAfterIt(t *testing.T) {
	w := newWorld(t)
	counted := meter.New(w.store)
	r := w.open(counted)
	used := func() uint64 {
		t.Helper()
		u, err := r.Usage(t.Context())
		if err != nil || u.Total != u.Used {
			t.Fatalf("%+v, %v", u, err)
		}
		return u.Used
	}
	if n := used(); n != 0 {
		t.Errorf("%d bytes of an empty repository", n)
	}
	n := names.Snapshot{Group: names.Group{Type: names.Host, ID: "a"}, Time: w.clock.at.Unix()}
	if err := contract.NewClient(t).Backup(t.Context(), r, n, contract.Random(rand.New(rand.NewPCG(1, 2)), 3)); err != nil {
		t.Fatal(err)
	}
	want := uint64(0)
	for i, err := range objstore.All(t.Context(), w.store, "s/", "") {
		if err != nil {
			t.Fatal(err)
		}
		want += uint64(i.Size)
	}
	if n := used(); n != want || n == 0 {
		t.Errorf("%d bytes, want %d", n, want)
	}
	before := counted.Counts().Requests[meter.List]
	if n := used(); n != want || counted.Counts().Requests[meter.List] != before {
		t.Errorf("%d bytes by another listing, although nothing changed", n)
	}
	st := w.collect(r, time.Hour)
	if n := used(); n != uint64(st.DiskBytes) || n == 0 {
		t.Errorf("%d bytes after a collection that found %d in use", n, st.DiskBytes)
	}
}
