package lookup_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog/catalogtest"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
)

func id(session int) pack.ID { return pack.ID{Session: uint64(session)} }

// move stores that the chunks at these offsets of a pack moved to the same of
// another.
func move(t *testing.T, b *bucket, st catalogtest.State, from, to int, void bool, offs ...uint32) {
	t.Helper()
	out := bytes.NewBufferString("before it")
	w := moves.NewWriter(out)
	for _, off := range offs {
		if err := w.Add(moves.Place{Pack: id(from), Off: off}, moves.Place{Pack: id(to), Off: off + 1}); err != nil {
			t.Fatal(err)
		}
	}
	n, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	key := fmt.Sprintf("s/%016x/m00000000", to)
	overwrite(t, b, key, append(out.Bytes(), "behind it"...))
	st[catalog.MovedKey(id(from))] = fmt.Sprintf(`{"in":%q,"off":9,"len":%d,"void":%v}`, key, n, void)
}

func TestMovesAreFollowed(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	move(t, b, st, 1, 2, true, 10, 20)
	move(t, b, st, 2, 3, true, 11)
	move(t, b, st, 3, 4, false, 12)
	m := lookup.NewMoves(b, 1<<20)
	for _, tc := range []struct {
		name  string
		from  pack.Location
		which lookup.Which
		to    pack.Location
		ok    bool
	}{
		{"as far as packs are gone", pack.Location{Pack: id(1), Off: 10, Len: 5}, lookup.Gone, pack.Location{Pack: id(3), Off: 12, Len: 5}, true},
		{"to the end", pack.Location{Pack: id(1), Off: 10, Len: 5}, lookup.Every, pack.Location{Pack: id(4), Off: 13, Len: 5}, true},
		{"into a pack that is gone", pack.Location{Pack: id(1), Off: 20, Len: 5}, lookup.Gone, pack.Location{}, false},
		{"of a pack that is gone and had another chunk", pack.Location{Pack: id(1), Off: 15, Len: 5}, lookup.Gone, pack.Location{}, false},
		{"of a pack that is there", pack.Location{Pack: id(3), Off: 12, Len: 5}, lookup.Gone, pack.Location{Pack: id(3), Off: 12, Len: 5}, true},
		{"of a chunk that stayed", pack.Location{Pack: id(3), Off: 13, Len: 5}, lookup.Every, pack.Location{Pack: id(3), Off: 13, Len: 5}, true},
		{"of a pack that did not move", pack.Location{Pack: id(7), Off: 13, Len: 5}, lookup.Every, pack.Location{Pack: id(7), Off: 13, Len: 5}, true},
	} {
		l, ok, err := m.Follow(t.Context(), st, tc.from, tc.which)
		if err != nil || ok != tc.ok || ok && l != tc.to {
			t.Errorf("%s: %v, %v, %v; want %v, %v", tc.name, l, ok, err, tc.to, tc.ok)
		}
	}
	if gets, _ := b.asked(); gets != 3 {
		t.Errorf("%d requests for three lists", gets)
	}
}

func TestListsOfMovesThatCannotBeReadAreTold(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	move(t, b, st, 1, 2, true, 10)
	from := pack.Location{Pack: id(1), Off: 10, Len: 5}
	m := lookup.NewMoves(b, 1<<20)

	b.err = errors.New("no route to host")
	if _, _, err := m.Follow(t.Context(), st, from, lookup.Gone); !errors.Is(err, b.err) {
		t.Errorf("%v", err)
	}
	b.err = nil
	good := st[catalog.MovedKey(id(1))]
	for _, rec := range []string{
		`{"in":"s/0000000000000002/m00000000","off":8,"len":80,"void":true}`,
		`{"in":"s/0000000000000002/m00000000","off":9,"len":800,"void":true}`,
		`{"in":"s/0000000000000002/m00000000","off":-9,"len":80,"void":true}`,
		`{"in":"s/0000000000000002/m00000000","off":9,"len":8000000000,"void":true}`,
		`{"in":"s/0000000000000002/m00000000","off":9223372036854775807,"len":80,"void":true}`,
		`7`,
	} {
		st[catalog.MovedKey(id(1))] = rec
		_, _, err := m.Follow(t.Context(), st, from, lookup.Gone)
		if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
			t.Errorf("%s: %v", rec, err)
		}
	}
	st[catalog.MovedKey(id(1))] = good
	if _, ok, err := m.Follow(t.Context(), st, from, lookup.Gone); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	m = lookup.NewMoves(b, 1<<20)
	if err := b.Delete(t.Context(), []string{"s/0000000000000002/m00000000"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Follow(t.Context(), st, from, lookup.Gone); !errors.Is(err, objstore.ErrNotFound) {
		t.Errorf("a list that is gone: %v", err)
	}
}

func TestMovesInACircleEnd(t *testing.T) {
	b, st := newBucket(), catalogtest.State{}
	var out bytes.Buffer
	w := moves.NewWriter(&out)
	if err := w.Add(moves.Place{Pack: id(5)}, moves.Place{Pack: id(5)}); err != nil {
		t.Fatal(err)
	}
	n, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, b, "s/m", out.Bytes())
	st[catalog.MovedKey(id(5))] = fmt.Sprintf(`{"in":"s/m","len":%d,"void":true}`, n)
	_, _, err = lookup.NewMoves(b, 1<<20).Follow(t.Context(), st, pack.Location{Pack: id(5), Len: 1}, lookup.Gone)
	if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
		t.Errorf("%v", err)
	}
}
