package collect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
)

// copied is a chunk on its way from an old pack to a new one.
type copied struct {
	digest digest.Digest
	from   pack.Location
	raw    []byte
	count  uint32
}

// source is an old pack with what is needed of it.
type source struct {
	id     pack.ID
	chunks []copied
	err    error // why it stays as it is
}

// sources is how many old packs are read, or wait, while another one is copied.
const sources = 3

// rewrite copies what is needed of some packs into new ones, in their order. A pack of which
// something is damaged stays as it is.
func (c *collector) rewrite(ctx context.Context, chosen []plan.Candidate) error {
	if len(chosen) == 0 {
		return nil
	}
	known, err := c.lookup(ctx, chosen)
	if err != nil {
		return err
	}
	b := &builder{c: c}
	get := func(ctx context.Context, p *packrefs.Pack) source {
		chunks, err := c.read(ctx, p)
		return source{p.ID, chunks, err}
	}
	return inOrder(ctx, known, sources, get, func(ctx context.Context, next <-chan chan source) error {
		done := 0
		for one := range next {
			c.progress("rewrite", done, len(known), "packs")
			done++
			s := <-one
			if damaged(s.err) {
				c.warn("pack %s stays as it is: %v", s.id, s.err)
				continue
			}
			if s.err != nil {
				return fmt.Errorf("read pack %s: %w", s.id, s.err)
			}
			if err := b.add(ctx, s); err != nil {
				return err
			}
		}
		return b.finish(ctx)
	})
}

// errDamaged is wrapped when a pack is not what it should be.
var errDamaged = errors.New("something in it is damaged")

func damaged(err error) bool {
	return errors.Is(err, errDamaged) || errors.Is(err, pack.ErrFormat) || errors.Is(err, objstore.ErrNotFound) || errors.Is(err, resume.ErrShort)
}

// lookup is what the counts know of some packs.
func (c *collector) lookup(ctx context.Context, chosen []plan.Candidate) (known []*packrefs.Pack, err error) {
	want := map[pack.ID]bool{}
	shards := map[int]bool{}
	for _, x := range chosen {
		want[x.ID] = true
		shards[c.refs.at(x.ID)] = true
	}
	for _, i := range slices.Sorted(maps.Keys(shards)) {
		for p, err := range c.refs.scan(ctx, c.refs.shards[i]) {
			if err != nil {
				return nil, err
			}
			if want[p.ID] {
				one := *p
				known = append(known, &one)
			}
		}
	}
	return known, nil
}

// nearby is a gap that is read with what lies around it.
const nearby = 256 << 10

// read gets what is needed of a pack, and checks it: the table by the checksum in it, each
// chunk by its own.
func (c *collector) read(ctx context.Context, p *packrefs.Pack) ([]copied, error) {
	table, err := pack.ReadTable(object{ctx, c.store, p.ID.Key()}, int64(p.Size))
	if err != nil {
		return nil, err
	}
	at := make(map[uint32]pack.Entry, len(table))
	off := uint32(0)
	for _, e := range table {
		at[off] = e
		off += e.Len
	}
	var all []copied
	for _, k := range p.Chunks {
		if k.Count == 0 {
			continue
		}
		e, ok := at[k.Off]
		if !ok || e.Len != k.Len {
			return nil, fmt.Errorf("%w: its table has no chunk of %d bytes at %d", errDamaged, k.Len, k.Off)
		}
		all = append(all, copied{digest: e.Digest, from: pack.Location{Pack: p.ID, Off: k.Off, Len: k.Len}, count: k.Count})
	}
	for first := 0; first < len(all); {
		end := first + 1
		for end < len(all) && all[end].from.Off-(all[end-1].from.Off+all[end-1].from.Len) <= nearby {
			end++
		}
		if err := c.readRange(ctx, all[first:end]); err != nil {
			return nil, err
		}
		first = end
	}
	for i := range all {
		if err := c.check(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// readRange gets chunks that lie near each other.
func (c *collector) readRange(ctx context.Context, chunks []copied) error {
	from, last := chunks[0].from, chunks[len(chunks)-1].from
	b := make([]byte, last.Off+last.Len-from.Off)
	if err := resume.Fetch(ctx, c.store, from.Pack.Key(), b, int64(from.Off)); err != nil {
		return err
	}
	for i := range chunks {
		at := chunks[i].from.Off - from.Off
		chunks[i].raw = b[at : at+chunks[i].from.Len]
	}
	return nil
}

// check sees that a chunk is sound. One that is known to be damaged is taken from where
// a sound one lies.
func (c *collector) check(ctx context.Context, k *copied) error {
	if b, ok := c.at.bad[k.digest]; ok {
		if b.Lost() {
			return fmt.Errorf("%w: chunk %s", errDamaged, k.digest)
		}
		at, err := c.moves.now(ctx, b.Place())
		if err != nil {
			return err
		}
		if at != k.from {
			if at.Len != k.from.Len { // its place would have another length
				return fmt.Errorf("%w: chunk %s, whose sound copy is of another length", errDamaged, k.digest)
			}
			k.raw = make([]byte, at.Len)
			if err := resume.Fetch(ctx, c.store, at.Pack.Key(), k.raw, int64(at.Off)); err != nil {
				return err
			}
		}
	}
	if _, err := blob.Check(k.raw); err != nil {
		return fmt.Errorf("%w: chunk %s: %w", errDamaged, k.digest, err)
	}
	return nil
}

// object is one as an io.ReaderAt.
type object struct {
	ctx context.Context
	s   objstore.Store
	key string
}

func (o object) ReadAt(p []byte, off int64) (int, error) {
	if err := resume.Fetch(o.ctx, o.s, o.key, p, off); err != nil {
		return 0, err
	}
	return len(p), nil
}

var _ io.ReaderAt = object{}
