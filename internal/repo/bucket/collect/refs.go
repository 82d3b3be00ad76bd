package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// refs are the counts, in shards: objects of the store until they change, then
// stretches of a temporary file.
type refs struct {
	store    objstore.Store
	limits   plan.Limits
	perShard int // packs and chunks, from which on another begins
	file     *spool.File
	end      int64 // of file
	shards   []shard
}

// shard is one, with packs behind those of the one before.
type shard struct {
	packrefs.Shard
	changed  bool // it lies in the file, not below its key
	off, len int64
}

func newRefs(s objstore.Store, root *packrefs.Root, limits plan.Limits, perShard int) (*refs, error) {
	file, err := spool.Create()
	if err != nil {
		return nil, err
	}
	r := &refs{store: s, limits: limits, perShard: perShard, file: file}
	for _, s := range root.Shards {
		r.shards = append(r.shards, shard{Shard: s})
	}
	return r, nil
}

func (r *refs) close() error { return r.file.Close() }

// maxShard is more than any shard has that this package wrote.
const maxShard = 256 << 20

// scan gives the packs of a shard. A failure is the last thing it gives.
func (r *refs) scan(ctx context.Context, s shard) iter.Seq2[*packrefs.Pack, error] {
	return func(yield func(*packrefs.Pack, error) bool) {
		var src io.Reader = io.NewSectionReader(r.file, s.off, s.len)
		if !s.changed {
			b, _, err := resume.ReadAll(ctx, r.store, s.Key, maxShard)
			if err != nil {
				yield(nil, lostCounts(s.Key, err))
				return
			}
			src = bytes.NewReader(b)
		}
		for p, err := range packrefs.Scan(src) {
			if !yield(p, lostCounts(s.Key, err)) {
				return
			}
		}
	}
}

// packs gives those of some shards.
func (r *refs) packs(ctx context.Context, shards []shard) iter.Seq2[*packrefs.Pack, error] {
	return func(yield func(*packrefs.Pack, error) bool) {
		for _, s := range shards {
			for p, err := range r.scan(ctx, s) {
				if !yield(p, err) || err != nil {
					return
				}
			}
		}
	}
}

// at returns the number of the shard that a pack is or would be in; that of one behind
// all is the last, if there are any.
func (r *refs) at(id pack.ID) int {
	i := sort.Search(len(r.shards), func(i int) bool { return r.shards[i].Last.Compare(id) >= 0 })
	if last := len(r.shards) - 1; i > last && last >= 0 && !r.full(r.shards[last]) {
		return last
	}
	return i
}

func (r *refs) full(s shard) bool {
	return s.Packs+s.Chunks+s.IdleChunks >= uint64(r.perShard)
}

// fold makes the changes of a tally, and returns the packs of which nothing needs to be
// known any more.
func (r *refs) fold(ctx context.Context, t *plan.Tally) (forgotten []pack.ID, err error) {
	ids := t.IDs()
	var all []shard
	next := 0 // the first shard that was not looked at
	for len(ids) > 0 {
		first := r.at(ids[0])
		all = append(all, r.shards[next:first]...)
		last, n := first, 1
		for n < len(ids) {
			i := r.at(ids[n])
			if i > last+1 {
				break
			}
			last = i
			n++
		}
		next = min(last+1, len(r.shards))
		changed, gone, err := r.rewrite(ctx, r.shards[first:next], t, ids[:n])
		if err != nil {
			return nil, err
		}
		all, forgotten = append(all, changed...), append(forgotten, gone...)
		ids = ids[n:]
	}
	r.shards = append(all, r.shards[next:]...)
	return forgotten, nil
}

// rewrite writes neighbours with the changes of a tally.
func (r *refs) rewrite(ctx context.Context, old []shard, t *plan.Tally, ids []pack.ID) (all []shard, forgotten []pack.ID, err error) {
	var w *packrefs.Writer
	var cur shard
	finish := func() error {
		if w == nil {
			return nil
		}
		err := w.Close()
		w = nil
		cur.len = r.end - cur.off
		all = append(all, cur)
		return err
	}
	defer func() {
		if w != nil {
			w.Drop()
		}
	}()
	held := 0
	for p, err := range plan.Fold(r.packs(ctx, old), t, ids) {
		if err != nil {
			return nil, nil, err
		}
		if plan.Forgotten(p) {
			forgotten = append(forgotten, p.ID)
			continue
		}
		if w == nil {
			if w, err = packrefs.NewWriter(r); err != nil {
				return nil, nil, err
			}
			cur, held = shard{changed: true, off: r.end}, 0
		}
		if err := w.Add(p); err != nil {
			return nil, nil, err
		}
		r.limits.Add(&cur.Shard, p)
		if held += 1 + len(p.Chunks); held >= r.perShard {
			if err := finish(); err != nil {
				return nil, nil, err
			}
		}
	}
	return all, forgotten, errors.Join(finish(), context.Cause(ctx))
}

// Write appends to the file.
func (r *refs) Write(p []byte) (int, error) {
	n, err := r.file.WriteAt(p, r.end)
	r.end += int64(n)
	return n, err
}

// totals are those of all shards.
func (r *refs) totals() (t packrefs.Shard) {
	for _, s := range r.shards {
		t.Packs += s.Packs
		t.Bytes += s.Bytes
		t.Chunks += s.Chunks
		t.Needed += s.Needed
		t.Idle += s.Idle
		t.IdleBytes += s.IdleBytes
		t.IdleChunks += s.IdleChunks
		t.Sparse += s.Sparse
	}
	return t
}

// store puts the changed shards where objects lie, under keys that name gives.
func (r *refs) save(ctx context.Context, name func() string, lock objstore.Retention) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i := range r.shards {
		s := &r.shards[i]
		if !s.changed {
			continue
		}
		s.Key = name()
		g.Go(func() error {
			err := objstore.Create(ctx, r.store, s.Key, io.NewSectionReader(r.file, s.off, s.len), lock)
			if err != nil {
				err = fmt.Errorf("store counts of references: %w", err)
			}
			return err
		})
	}
	return g.Wait()
}
