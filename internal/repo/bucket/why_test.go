package bucket_test

import (
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest/contract"
)

// change makes an entry of the log, as somebody else.
func (w *world) change(decide func(catalog.Tx) error) {
	w.Helper()
	l, err := ledger.Open(w.Context(), w.store, ledger.Options{Who: "somebody", Now: w.clock.now})
	if err == nil {
		_, err = l.Update(w.Context(), func(tx *ledger.Tx) error { return decide(tx) })
	}
	if err != nil {
		w.Fatal(err)
	}
}

// endAll ends all sessions.
func endAll(tx catalog.Tx) error {
	all, err := catalog.Sessions(tx)
	for _, s := range all {
		err = errors.Join(err, catalog.End(tx, s.Number))
	}
	return err
}

// packs are those that are stored.
func (w *world) packs() (all []pack.ID) {
	w.Helper()
	for _, key := range w.objects("s/") {
		dir, name := path.Split(key)
		if number, ok := strings.CutPrefix(name, "p"); ok {
			id, err := pack.ParseID(path.Base(dir) + number)
			if err != nil {
				w.Fatal(err)
			}
			all = append(all, id)
		}
	}
	return all
}

// What a session reads is there for as long as it runs. Where it is not, others may have ended
// the session, and that is what it is told; else the object is missing.
func TestASessionThatOthersEndedSaysSoAndNotWhatItMisses(t *testing.T) {
	for _, ended := range []bool{true, false} {
		w := newWorld(t)
		c := contract.NewClient(t)
		what := contract.Random(rand.New(rand.NewPCG(1, 1)), 20)
		r := w.open(w.store)
		if err := c.Backup(t.Context(), r, at(w, "100", 0), what); err != nil {
			t.Fatal(err)
		}
		moved := w.packs()
		w.change(func(tx catalog.Tx) error {
			for _, id := range moved {
				if err := catalog.Set(tx, catalog.MovedKey(id), catalog.Moved{In: "s/0000000000000009/m00000000", Span: catalog.Span{Len: 100}}); err != nil {
					return err
				}
			}
			return nil
		})
		ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: at(w, "100", 1)})
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.WriteAll(t.Context(), ses, what)
		if err != nil {
			t.Fatal(err)
		}
		if ended {
			w.change(endAll)
		}
		err = ses.Finish(t.Context(), m)
		if errors.Is(err, catalog.ErrFenced) != ended || errors.Is(err, objstore.ErrNotFound) == ended || !strings.Contains(err.Error(), "/m00000000") {
			t.Errorf("ended: %v: %v", ended, err)
		}
		if err := ses.Abort(); err != nil {
			t.Error(err)
		}
	}
}

// A refill ends with its guard.
func TestARefillThatOthersEndedSaysSoAndNotWhatItMisses(t *testing.T) {
	for _, ended := range []bool{true, false} {
		w := newWorld(t)
		s := &picky{Store: w.store}
		s.put = func(key string) error {
			if !strings.Contains(key, "/p") {
				return nil
			}
			if ended {
				w.change(endAll)
			}
			return errors.Join(objstore.ErrPrecondition, objstore.ErrNotFound) // it was removed between two answers
		}
		f, err := w.open(s).Refill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		plain := []byte("a chunk")
		raw, err := contract.NewClient(t).Encode(plain)
		if err == nil {
			_, err = f.Put(t.Context(), digest.Of(plain), raw)
		}
		if err != nil {
			t.Fatal(err)
		}
		err = f.Close()
		if errors.Is(err, catalog.ErrFenced) != ended || errors.Is(err, objstore.ErrNotFound) == ended {
			t.Errorf("ended: %v: %v", ended, err)
		}
	}
}
