package reading_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

func TestDamagedChunksAreReadWhereASoundOneLies(t *testing.T) {
	w := build(t, 200)
	p := w.open(0)
	good := w.chunks[9]
	sound := []byte("another encoding of the same data")
	w.put(pack.ID{Session: 9}.Key(), append([]byte("xyz"), sound...))
	w.seen[catalog.BadKey(good.d)] = `{"pack":"000000000000000900000000","off":3,"len":33}`
	if raw, err := p.ReadChunk(t.Context(), good.d, nil); err != nil || !bytes.Equal(raw, sound) {
		t.Errorf("%q, %v", raw, err)
	}
	w.seen[catalog.BadKey(good.d)] = `{}` // nobody has one: what is there may be of use
	same(t, p, good)
}

func TestChunksThatAreNowhereAreMissing(t *testing.T) {
	w := build(t, 200)
	p := w.open(0)
	w.remove(pack.ID{Session: 7, Number: 1}.Key())
	p.Prefetch(w.digests())
	missing := 0
	for _, c := range w.chunks {
		if _, err := p.ReadChunk(t.Context(), c.d, nil); errors.Is(err, repo.ErrChunkMissing) {
			missing++
			if c.at.Pack.Number != 1 {
				t.Errorf("chunk %s of pack %s: %v", c.d, c.at.Pack, err)
			}
		} else if err != nil {
			t.Error(err)
		}
	}
	if missing == 0 {
		t.Error("all are there")
	}
}

// Who reads a snapshot for so long that others have removed it and what it needs must not take
// that for damage.
func TestChunksOfARemovedSnapshotAreNotMissing(t *testing.T) {
	for _, announced := range []bool{false, true} {
		w := build(t, 100)
		p := w.open(0)
		w.now = maps.Clone(w.now)
		delete(w.now, catalog.SnapshotKey(snapshot))
		c := w.chunks[0]
		w.remove(c.at.Pack.Key())
		if announced {
			p.Prefetch(w.digests())
		}
		_, err := p.ReadChunk(t.Context(), c.d, nil)
		if !errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrChunkMissing) || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("%v", err)
		}
		if _, err := w.open(0).ReadChunk(t.Context(), c.d, nil); !errors.Is(err, repo.ErrChunkMissing) { // it is of the past
			t.Errorf("one that was removed before it was opened: %v", err)
		}
	}
}

func TestACutPackIsDamage(t *testing.T) {
	w := build(t, 200)
	id := pack.ID{Session: 7, Number: 1}
	b, _, err := objstore.ReadAll(t.Context(), w.store.Store, id.Key(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	w.put(id.Key(), b[:len(b)/2])
	p := w.open(0)
	p.Prefetch(w.digests())
	damaged := 0
	for _, c := range w.chunks {
		raw, err := p.ReadChunk(t.Context(), c.d, nil)
		_, damage := errors.AsType[*repo.CorruptError](err)
		switch {
		case damage || errors.Is(err, repo.ErrChunkMissing):
			damaged++
			if c.at.Pack != id || int(c.at.Off+c.at.Len) <= len(b)/2 {
				t.Errorf("chunk %s at %v: %v", c.d, c.at, err)
			}
		case err != nil || !bytes.Equal(raw, c.raw):
			t.Errorf("chunk %s: %v", c.d, err)
		}
	}
	if damaged == 0 {
		t.Error("all are there")
	}
}
