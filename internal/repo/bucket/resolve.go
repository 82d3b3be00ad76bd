package bucket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/extsort"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// resolver finds where the chunks of a snapshot lie: in the packs of its
// session, where a question found them, where the base has them, in the indexes.
// All but the last are sorted, and read side by side.
type resolver struct {
	own, found *cursor
	base       *baseCursor // nil: none
	may        func(pack.ID) bool
	bad        map[digest.Digest]catalog.Bad
	find       func(context.Context, digest.Digest) (pack.Location, bool, error)
	follow     func(context.Context, pack.Location) (pack.Location, bool, error) // where it moved
}

// blockChunks is how many chunks are looked at before those of them are looked up
// that only an index knows, askers at a time.
const (
	blockChunks = 4096
	askers      = 32
)

// mapOf writes the chunk map of the needed digests, which ascend.
func (r *resolver) mapOf(ctx context.Context, needed *extsort.Sorter, w *chunkmap.Writer) error {
	block := make([]packindex.Entry, 0, blockChunks)
	flush := func() error {
		if err := r.ask(ctx, block); err != nil {
			return err
		}
		for _, e := range block {
			if err := w.Add(e.Digest, e.Location); err != nil {
				return err
			}
		}
		block = block[:0]
		return context.Cause(ctx)
	}
	var last digest.Digest
	for rec, err := range needed.All() {
		if err != nil {
			return err
		}
		d := digest.Digest(rec)
		if d == last {
			continue
		}
		last = d
		e := packindex.Entry{Digest: d}
		if e.Location, err = r.known(d); err != nil {
			return err
		}
		if block = append(block, e); len(block) == cap(block) {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// known is where a chunk lies, as far as it can be told without a request. A
// length of zero is nowhere; it may be in a pack that the session may not use.
func (r *resolver) known(d digest.Digest) (pack.Location, error) {
	at, err := r.own.find(d)
	if err != nil || at.Len > 0 {
		return at, err
	}
	if b, ok := r.bad[d]; ok && !b.Lost() {
		return b.Place(), nil
	}
	if at, err = r.found.find(d); err != nil || at.Len > 0 || r.base == nil {
		return at, err
	}
	return r.base.find(d)
}

// ask looks up what is nowhere yet, or where it may not be.
func (r *resolver) ask(ctx context.Context, block []packindex.Entry) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(askers)
	for i := range block {
		if block[i].Len > 0 && r.may(block[i].Pack) {
			continue
		}
		g.Go(func() (err error) {
			block[i].Location, err = r.search(gctx, block[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// search finds a chunk where it has moved, or in the indexes. What only a pack has that
// is condemned or was written anew without it stays there: somebody else needed it
// when it was too late to be counted, or the base would not have it, and the entry that
// commits takes the pack off the list or refuses.
func (r *resolver) search(ctx context.Context, e packindex.Entry) (pack.Location, error) {
	last, there := e.Location, false // where it moved
	if e.Len > 0 {
		var err error
		last, there, err = r.follow(ctx, e.Location)
		if err != nil || there && r.may(last.Pack) {
			return last, err
		}
	}
	at, ok, err := r.find(ctx, e.Digest)
	switch {
	case err != nil || ok:
		return at, err
	case there:
		return last, nil
	}
	return at, fmt.Errorf("%w: %s, which its index names and nobody has sent", repo.ErrChunkMissing, e.Digest)
}

// cursor walks through sorted entries of places.
type cursor struct {
	next func() ([]byte, error, bool)
	stop func()
	cur  []byte // nil: the end
}

func newCursor(s *extsort.Sorter) (*cursor, error) {
	next, stop := iter.Pull2(s.All())
	c := &cursor{next: next, stop: stop}
	return c, c.step()
}

func (c *cursor) step() error {
	rec, err, ok := c.next()
	if !ok {
		rec = nil
	}
	c.cur = rec
	return err
}

// find is the place of d, which lies behind all that were asked for before.
func (c *cursor) find(d digest.Digest) (pack.Location, error) {
	for c.cur != nil {
		switch bytes.Compare(c.cur[:digest.Size], d[:]) {
		case 0:
			return placeOf(c.cur), nil
		case 1:
			return pack.Location{}, nil
		}
		if err := c.step(); err != nil {
			return pack.Location{}, err
		}
	}
	return pack.Location{}, nil
}

// placeOf is the place in the bytes of an entry.
func placeOf(entry []byte) pack.Location {
	b := entry[digest.Size+pack.IDSize:]
	return pack.Location{
		Pack: pack.IDFrom(entry[digest.Size:]),
		Off:  binary.LittleEndian.Uint32(b),
		Len:  binary.LittleEndian.Uint32(b[4:]),
	}
}

// baseCursor walks through the chunk map of the base.
type baseCursor struct {
	next   func() ([chunkmap.PrefixSize]byte, pack.Location, bool)
	stop   func()
	err    error
	prefix [chunkmap.PrefixSize]byte
	at     pack.Location
	more   bool
}

func newBaseCursor(m *chunkmap.Map) *baseCursor {
	c := &baseCursor{}
	c.next, c.stop = iter.Pull2(func(yield func([chunkmap.PrefixSize]byte, pack.Location) bool) {
		err := m.Each(func(p [chunkmap.PrefixSize]byte, l pack.Location) error {
			if !yield(p, l) {
				return errEnded
			}
			return nil
		})
		if !errors.Is(err, errEnded) {
			c.err = err
		}
	})
	c.step()
	return c
}

func (c *baseCursor) step() { c.prefix, c.at, c.more = c.next() }

func (c *baseCursor) find(d digest.Digest) (pack.Location, error) {
	for c.more {
		switch bytes.Compare(c.prefix[:], d[:chunkmap.PrefixSize]) {
		case 0:
			return c.at, nil
		case 1:
			return pack.Location{}, nil
		}
		c.step()
	}
	return pack.Location{}, c.err
}

// needs collects the digests that indexes name.
func needs(files []*staged) (*extsort.Sorter, error) {
	needed := extsort.New(digest.Size, sortBytes)
	var last digest.Digest
	add := func(d digest.Digest) error {
		if d == last { // zeros come in runs
			return nil
		}
		last = d
		return needed.Add(d[:])
	}
	for _, f := range files {
		if err := f.each(add); err != nil {
			return nil, errors.Join(fmt.Errorf("index %s: %w", f.name, err), needed.Close())
		}
	}
	return needed, nil
}

// each calls add with every digest that an index names.
func (s *staged) each(add func(digest.Digest) error) error {
	switch s.name.Kind() {
	case names.Fidx:
		x, err := fidx.Open(s, s.size)
		if err != nil {
			return err
		}
		return x.Each(func(_ int, d digest.Digest) error { return add(d) })
	case names.Didx:
		x, err := didx.Open(s, s.size)
		if err != nil {
			return err
		}
		return x.Each(func(_ int, _, _ int64, d digest.Digest) error { return add(d) })
	}
	return nil
}

// lies is a chunk map that was just written.
type lies struct {
	file  *spool.File
	size  int64
	packs []pack.ID
	m     *chunkmap.Map // nil: nobody has asked yet
}

// Packs are all packs in it.
func (l *lies) Packs() []pack.ID { return l.packs }

// Lies looks up one chunk.
func (l *lies) Lies(d digest.Digest) (pack.Location, bool, error) {
	if l.m == nil {
		var err error
		if l.m, err = chunkmap.Open(l.file, l.size); err != nil {
			return pack.Location{}, false, err
		}
	}
	return l.m.Find(d)
}

// sizes are the lengths of packs that others stored.
func (r *Repository) sizes(ctx context.Context, packs []pack.ID) (map[pack.ID]uint32, error) {
	all := make([]uint32, len(packs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(askers)
	for i, id := range packs {
		g.Go(func() error {
			info, err := r.store.Stat(ctx, id.Key())
			if err == nil && info.Size > pack.MaxSize {
				err = fmt.Errorf("it has %d bytes", info.Size)
			}
			if err != nil {
				return fmt.Errorf("pack %s: %w", id, err)
			}
			all[i] = uint32(info.Size)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sizes := make(map[pack.ID]uint32, len(packs))
	for i, id := range packs {
		sizes[id] = all[i]
	}
	return sizes, nil
}
