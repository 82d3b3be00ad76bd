package reading_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

func TestPacksThatMovedAreReadWhereTheyAre(t *testing.T) {
	for _, announced := range []bool{false, true} {
		w := build(t, 200)
		p := w.open(0)
		w.move(1, 0)
		w.move(3, 5)
		if announced {
			p.Prefetch(w.digests())
		}
		for _, c := range w.chunks {
			same(t, p, c)
		}
		if w.refreshed == 0 || w.refreshed > 200 {
			t.Errorf("the state was asked for %d times", w.refreshed)
		}
	}
}

// A pack goes a little before the state says that it is gone.
func TestAMovedChunkIsFoundWhileItsPackIsBeingRemoved(t *testing.T) {
	for _, announced := range []bool{false, true} {
		w := build(t, 100)
		p := w.open(0)
		w.moved(1, 0, false)
		if announced {
			p.Prefetch(w.digests())
		}
		for _, c := range w.chunks {
			same(t, p, c)
		}
	}
}

// A pack may be written anew once more, and the list that was made of it before is removed.
func TestAnOlderListOfMovedChunksMayBeGone(t *testing.T) {
	w := build(t, 100)
	p := w.open(0)
	c := w.chunks[99]
	w.moved(c.at.Pack.Number, 0, true)
	key := catalog.MovedKey(c.at.Pack)
	old := func() {
		w.seen = maps.Clone(w.now)
		w.seen[key] = `{"in":"s/0000000000000008/m00000000","len":80,"void":true}`
	}
	old()
	l, err := p.Locate(t.Context(), c.d)
	if want := (pack.Location{Pack: pack.ID{Session: 9}, Off: c.at.Off + 5, Len: c.at.Len}); err != nil || l != want || w.refreshed != 1 {
		t.Errorf("it lies at %v, %v, want %v; the state was asked for %d times", l, err, want, w.refreshed)
	}
	old()
	same(t, p, c)
	old()
	w.now = w.seen
	if _, err := p.Locate(t.Context(), c.d); !errors.Is(err, objstore.ErrNotFound) || w.refreshed != 3 {
		t.Errorf("one that is lost: %v; the state was asked for %d times", err, w.refreshed)
	}
}
