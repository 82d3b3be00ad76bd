package collect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// builder fills new packs. It holds the one that is filled, and of each chunk 52 bytes.
type builder struct {
	c       *collector
	body    []byte
	entries []pack.Entry
	index   []packindex.Entry
	lists   []movedList
}

// movedList is where the chunks of an old pack go.
type movedList struct {
	id pack.ID
	to []step
}

type step struct{ off, pack, at uint32 } // the new packs are all of one session

// add copies the chunks of an old pack. All of them fit into what is held, as they came from a pack.
func (b *builder) add(ctx context.Context, s source) error {
	l := movedList{id: s.id}
	for _, k := range s.chunks {
		if len(b.body) > 0 && int64(len(b.body)+len(k.raw)) > b.c.at.meta.PackSize {
			if err := b.flush(ctx); err != nil {
				return err
			}
		}
		to := pack.Location{Pack: b.id(), Off: uint32(len(b.body)), Len: k.from.Len}
		b.body = append(b.body, k.raw...)
		b.entries = append(b.entries, pack.Entry{Digest: k.digest, Len: k.from.Len})
		b.index = append(b.index, packindex.Entry{Digest: k.digest, Location: to})
		l.to = append(l.to, step{k.from.Off, to.Pack.Number, to.Off})
		b.c.tally.Count(k.from, -int32(k.count))
		b.c.tally.Count(to, int32(k.count))
	}
	b.lists = append(b.lists, l)
	return nil
}

// id is that of the pack that is filled.
func (b *builder) id() pack.ID {
	return pack.ID{Session: uint64(b.c.out.number), Number: b.c.next.pack}
}

// flush stores the pack that was filled.
func (b *builder) flush(ctx context.Context) error {
	if len(b.entries) == 0 {
		return nil
	}
	id := b.id()
	b.body = pack.AppendTable(b.body, b.entries)
	if err := b.c.put(ctx, id.Key(), bytes.NewReader(b.body)); err != nil {
		return err
	}
	b.c.tally.There(id, uint32(len(b.body)), b.c.locked[id.Key()])
	delete(b.c.locked, id.Key()) // that of a pack is known by its counts
	b.c.next.pack++
	b.body, b.entries = b.body[:0], b.entries[:0]
	return nil
}

// finish stores the last pack, where the chunks went, and an index of the new packs.
func (b *builder) finish(ctx context.Context) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	if len(b.lists) == 0 {
		return nil
	}
	if err := b.saveMoves(ctx); err != nil {
		return err
	}
	return b.saveIndex(ctx)
}

// saveMoves stores one object with a list for each old pack: what is known of its chunks already,
// and what has come.
func (b *builder) saveMoves(ctx context.Context) (err error) {
	key := fmt.Sprintf("%sm%08x", catalog.SessionDir(b.c.out.number), b.c.next.moves)
	b.c.next.moves++
	f, err := spool.Create()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // its content was used
	end := int64(0)
	for _, l := range b.lists {
		n, err := b.writeList(ctx, io.NewOffsetWriter(f, end), l)
		if err != nil {
			return err
		}
		b.c.out.moved[l.id] = catalog.Moved{In: key, Span: catalog.Span{Off: end, Len: n}}
		end += n
	}
	return b.c.put(ctx, key, io.NewSectionReader(f, 0, end))
}

// writeList writes where the chunks of an old pack are, and notes which packs that list
// names.
func (b *builder) writeList(ctx context.Context, w io.Writer, l movedList) (int64, error) {
	type place struct {
		off uint32
		to  moves.Place
	}
	var all []place
	fresh := map[pack.ID]bool{}
	if _, ok := b.c.moves.moved[l.id]; ok {
		old, err := b.c.moves.list(ctx, l.id)
		if err != nil {
			return 0, err
		}
		err = old.Each(func(from, to moves.Place) error {
			all = append(all, place{from.Off, to})
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	for _, s := range l.to {
		id := pack.ID{Session: uint64(b.c.out.number), Number: s.pack}
		all = append(all, place{s.off, moves.Place{Pack: id, Off: s.at}})
		fresh[id] = true
	}
	slices.SortFunc(all, func(a, b place) int { return int(int64(a.off) - int64(b.off)) })
	mw := moves.NewWriter(w)
	for _, p := range all {
		if err := mw.Add(moves.Place{Pack: l.id, Off: p.off}, p.to); err != nil {
			return 0, err
		}
	}
	for id := range fresh { // the others are named already
		b.c.tally.Name(id, 0, 1)
	}
	return mw.Close()
}

// saveIndex stores where the chunks of the new packs lie. Where two packs had the same chunk, one
// of them is found.
func (b *builder) saveIndex(ctx context.Context) error {
	slices.SortFunc(b.index, func(x, y packindex.Entry) int {
		if n := slices.Compare(x.Digest[:], y.Digest[:]); n != 0 {
			return n
		}
		return x.Location.Compare(y.Location)
	})
	b.index = slices.CompactFunc(b.index, func(x, y packindex.Entry) bool { return x.Digest == y.Digest })
	i := 0
	return b.c.writeIndex(ctx, 0, 0, func() (packindex.Entry, bool, error) {
		if i == len(b.index) {
			return packindex.Entry{}, false, nil
		}
		i++
		return b.index[i-1], true, nil
	})
}
