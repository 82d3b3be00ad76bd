package datastore_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// Slots set one by one, in runs and from a list make the same index.
func TestWaysToSetSlotsAgree(t *testing.T) {
	const count, chunk = 5000, 4096
	ds := make([]digest.Digest, count)
	for i := range ds {
		binary.LittleEndian.PutUint32(ds[i][:], uint32(i/3000)+1)
	}
	type bulk interface {
		repo.FixedWriter
		SetRun(first, n int, d digest.Digest) error
		SetDigests(first int, ds []digest.Digest) error
	}
	store := mustOpen(t, newDisk(t))
	defer func() { _ = store.Close() }()
	var sums []digest.Digest
	for n, set := range []func(w bulk) error{
		func(w bulk) error {
			for i, d := range ds {
				if err := w.Set(i, d); err != nil {
					return err
				}
			}
			return nil
		},
		func(w bulk) error {
			if err := w.SetRun(0, 3000, ds[0]); err != nil {
				return err
			}
			return w.SetRun(3000, count-3000, ds[count-1])
		},
		func(w bulk) error {
			if err := w.SetDigests(7, ds[7:]); err != nil {
				return err
			}
			return w.SetDigests(0, ds[:7])
		},
	} {
		at := snapshotAt("100", time.Unix(1_700_000_000+int64(n), 0))
		ses, err := store.Begin(t.Context(), repo.Begin{Snapshot: at})
		if err != nil {
			t.Fatal(err)
		}
		fw, err := ses.CreateFixed(contract.ImageName, count*chunk, chunk)
		if err != nil {
			t.Fatal(err)
		}
		w := fw.(bulk)
		if w.SetDigests(count-1, ds[:2]) == nil || w.SetDigests(-1, ds[:1]) == nil {
			t.Error("slots outside the index are taken")
		}
		if err := set(w); err != nil {
			t.Fatal(err)
		}
		sum, err := w.Close()
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sum)
		if err := ses.Abort(); err != nil {
			t.Fatal(err)
		}
	}
	if sums[0] != sums[1] || sums[0] != sums[2] {
		t.Errorf("sums %s", sums)
	}
}
