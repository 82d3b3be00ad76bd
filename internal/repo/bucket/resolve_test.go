package bucket

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/extsort"
)

// places are where chunks are said to lie, by their content.
type places map[string]pack.Location

func in(session uint64) pack.Location { return pack.Location{Pack: pack.ID{Session: session}, Len: 9} }

func (p places) sorter(t *testing.T) *extsort.Sorter {
	t.Helper()
	s := extsort.New(packindex.EntrySize, 0) // each record is a run of its own
	for text, at := range p {
		if err := s.Add(packindex.Entry{Digest: digest.Of([]byte(text)), Location: at}.Append(nil)); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (p places) chunkMap(t *testing.T) *chunkmap.Map {
	t.Helper()
	byDigest := map[digest.Digest]pack.Location{}
	for text, at := range p {
		byDigest[digest.Of([]byte(text))] = at
	}
	var b bytes.Buffer
	w := chunkmap.NewWriter(&b)
	for _, d := range slices.SortedFunc(maps.Keys(byDigest), func(a, b digest.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		if err := w.Add(d, byDigest[d]); err != nil {
			t.Fatal(err)
		}
	}
	size, err := w.Close(func(pack.ID) (uint32, error) { return 1000, nil })
	if err != nil {
		t.Fatal(err)
	}
	m, err := chunkmap.Open(bytes.NewReader(b.Bytes()), size)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Sessions 1 to 9 wrote packs; those of 3 and 5 may not be used.
func TestChunksAreWhereTheSessionMayUseThem(t *testing.T) {
	own := places{"own": in(9), "own and found": in(9), "own and damaged elsewhere": in(9)}
	found := places{"found": in(1), "own and found": in(1), "found and in the base": in(1)}
	base := places{"base": in(2), "found and in the base": in(2), "moved": in(3), "moved to a bad place": in(5), "condemned": in(5), "damaged": in(2), "lost": in(2)}
	indexed := places{"moved to a bad place": in(6), "only in an index": in(6)}
	bad := map[string]catalog.Bad{
		"damaged":                   {Pack: in(7).Pack, Len: 9},
		"lost":                      {},
		"own and damaged elsewhere": {Pack: in(7).Pack, Len: 9},
	}
	want := places{
		"own": in(9), "own and found": in(9), "found": in(1), "found and in the base": in(1), "base": in(2),
		"moved": in(4), "moved to a bad place": in(6), "only in an index": in(6),
		"condemned": in(5), // the commit decides
		"damaged":   in(7), "own and damaged elsewhere": in(9),
		"lost": in(2), // the commit refuses
	}
	r := &resolver{
		bad: map[digest.Digest]catalog.Bad{},
		may: func(id pack.ID) bool { return id.Session != 3 && id.Session != 5 },
		find: func(_ context.Context, d digest.Digest) (pack.Location, bool, error) {
			for text, at := range indexed {
				if digest.Of([]byte(text)) == d {
					return at, true, nil
				}
			}
			return pack.Location{}, false, nil
		},
	}
	for text, b := range bad {
		r.bad[digest.Of([]byte(text))] = b
	}
	resolve := func(names places) (*chunkmap.Map, error) {
		needed := extsort.New(digest.Size, 0)
		defer needed.Close()
		for text := range names {
			d := digest.Of([]byte(text))
			for range 2 { // as an index may name it
				if err := needed.Add(d[:]); err != nil {
					t.Fatal(err)
				}
			}
		}
		var err error
		if r.own, err = newCursor(own.sorter(t)); err != nil {
			t.Fatal(err)
		}
		defer r.own.stop()
		if r.found, err = newCursor(found.sorter(t)); err != nil {
			t.Fatal(err)
		}
		defer r.found.stop()
		r.base = newBaseCursor(base.chunkMap(t))
		defer r.base.stop()
		var b bytes.Buffer
		w := chunkmap.NewWriter(&b)
		if err := r.mapOf(t.Context(), needed, w); err != nil {
			return nil, err
		}
		size, err := w.Close(func(pack.ID) (uint32, error) { return 1000, nil })
		if err != nil {
			t.Fatal(err)
		}
		return chunkmap.Open(bytes.NewReader(b.Bytes()), size)
	}
	r.follow = func(_ context.Context, l pack.Location) (pack.Location, bool, error) {
		return in(l.Pack.Session + 1), false, nil // nothing moved
	}
	if _, err := resolve(places{"moved": {}}); !errors.Is(err, repo.ErrChunkMissing) {
		t.Errorf("what is nowhere: %v", err)
	}
	r.follow = func(_ context.Context, l pack.Location) (pack.Location, bool, error) {
		switch l.Pack.Session {
		case 3:
			return in(4), true, nil
		case 5:
			return in(5), true, nil
		}
		t.Errorf("session %d may be used", l.Pack.Session)
		return l, true, nil
	}
	m, err := resolve(want)
	if err != nil {
		t.Fatal(err)
	}
	for text, at := range want {
		got, ok, err := m.Find(digest.Of([]byte(text)))
		if err != nil || !ok || got != at {
			t.Errorf("%s: in the pack of session %d, want %d (%v)", text, got.Pack.Session, at.Pack.Session, err)
		}
	}
	if n := len(m.Packs()); n != 7 {
		t.Errorf("%d packs", n)
	}
}
