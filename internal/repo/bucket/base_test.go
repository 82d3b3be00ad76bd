package bucket_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// The base may have come when it was too late to be counted: its packs are condemned then, or
// were written anew without what only it needs. A backup that shares its chunks finds them there.
func TestWhatTheBaseHasInACondemnedPackIsFound(t *testing.T) {
	for name, tc := range map[string]struct {
		anew, doomed bool
		want         error
	}{
		"condemned":                   {},
		"written anew":                {anew: true},
		"condemned and being removed": {doomed: true, want: catalog.ErrRemoved},
		"written anew and removed":    {anew: true, doomed: true, want: repo.ErrChunkMissing},
	} {
		w := newWorld(t)
		c := contract.NewClient(t)
		what := contract.Random(rand.New(rand.NewPCG(1, 1)), 20)
		r := w.open(w.store)
		if err := c.Backup(t.Context(), r, at(w, "100", 0), what); err != nil {
			t.Fatal(err)
		}
		dead := catalog.DeadKey(9, 0)
		w.condemn(dead, w.packs(), tc.anew, tc.doomed)
		stored := len(w.packs())
		err := c.Backup(t.Context(), r, at(w, "100", 1), what)
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil {
			continue
		}
		if n := len(w.packs()); n != stored {
			t.Errorf("%s: %d packs are new", name, n-stored)
		}
		if got, err := c.Restore(t.Context(), r, at(w, "100", 1)); err != nil || !got.Equal(what) {
			t.Errorf("%s: it does not restore: %v", name, err)
		}
		w.change(func(tx catalog.Tx) error {
			if raw, ok := tx.Get(dead); ok {
				t.Errorf("%s: packs are condemned still: %s", name, raw)
			}
			return nil
		})
	}
}

// condemn lists packs as condemned, which may have been written anew with another chunk than is
// in them.
func (w *world) condemn(key string, packs []pack.ID, anew, doomed bool) {
	w.Helper()
	all := map[pack.ID]catalog.Moved{}
	var object bytes.Buffer
	for _, id := range packs {
		off := int64(object.Len())
		m := moves.NewWriter(&object)
		err := m.Add(moves.Place{Pack: id, Off: math.MaxUint32}, moves.Place{Pack: pack.ID{Session: 9}})
		n, cerr := m.Close()
		if err := errors.Join(err, cerr); err != nil {
			w.Fatal(err)
		}
		all[id] = catalog.Moved{In: "s/0000000000000009/m00000000", Span: catalog.Span{Off: off, Len: n}, Void: doomed}
	}
	if _, err := w.store.Put(w.Context(), "s/0000000000000009/m00000000", bytes.NewReader(object.Bytes()), objstore.PutOptions{}); err != nil {
		w.Fatal(err)
	}
	w.change(func(tx catalog.Tx) error {
		for id, m := range all {
			if !anew {
				break
			}
			if err := catalog.Set(tx, catalog.MovedKey(id), m); err != nil {
				return err
			}
		}
		list := catalog.Dead{At: w.clock.now(), Packs: packs}
		if doomed {
			list.Doomed = catalog.Number(tx.Seq())
		}
		return catalog.Set(tx, key, list)
	})
}
