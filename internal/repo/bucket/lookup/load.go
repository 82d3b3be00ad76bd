package lookup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
)

const (
	atOnce = 32       // heads on their way
	small  = 16 << 10 // bytes: an index that is read whole
)

// counter counts what was found in an index.
type counter struct{ atomic.Int64 }

// load brings the heads, once. Who comes meanwhile waits, and tries it himself if
// it failed.
func (v *View) load(ctx context.Context) error {
	select {
	case <-v.loaded:
		return nil
	default:
	}
	select {
	case <-v.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { v.turn <- struct{}{} }()
	select {
	case <-v.loaded:
		return nil
	default:
	}
	indexes, err := v.x.load(ctx, v.runs)
	if err != nil {
		return fmt.Errorf("read the indexes of the repository: %w", err)
	}
	v.indexes = indexes
	close(v.loaded)
	return nil
}

// load returns the indexes of runs, as far as there is room for their heads, and
// forgets all others.
func (x *Indexes) load(ctx context.Context, runs []run) ([]*index, error) {
	left := x.opt.Heads
	here := make([]*index, len(runs))
	x.mu.Lock()
	for i, r := range runs {
		if r.Head <= left {
			left -= r.Head
			here[i] = x.heads[r.key]
		} else {
			runs[i].Head = 0
		}
	}
	x.mu.Unlock()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, r := range runs {
		if here[i] != nil || r.Head == 0 {
			continue
		}
		g.Go(func() (err error) {
			here[i], err = x.head(gctx, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	var found []*index
	heads := map[string]*index{}
	for i, r := range runs {
		if here[i] == nil {
			continue
		}
		heads[r.key] = here[i]
		if here[i].head != nil {
			found = append(found, here[i])
		}
	}
	x.mu.Lock()
	x.heads = heads
	x.mu.Unlock()
	return found, nil
}

// head reads the head of an index, and its blocks if they are few. One that is of
// no use has none.
func (x *Indexes) head(ctx context.Context, r run) (*index, error) {
	i := &index{key: r.key}
	if int64(len(r.Inline)) == r.Head {
		var err error
		if i.head, err = packindex.ParseHead(r.Inline, r.Bytes); err == nil {
			return i, nil
		}
	}
	n := r.Head
	if r.Bytes <= small {
		n = r.Bytes
	}
	b := make([]byte, n)
	err := resume.Fetch(ctx, x.store, r.key, b, r.Bytes-n)
	switch {
	case errors.Is(err, objstore.ErrNotFound): // merged meanwhile
		return i, nil
	case errors.Is(err, resume.ErrShort):
		x.damaged(r.key, err)
		return i, nil
	case err != nil:
		return nil, err
	}
	head := append([]byte(nil), b[n-r.Head:]...) // it stays longer than the blocks
	if i.head, err = packindex.ParseHead(head, r.Bytes); err != nil {
		x.damaged(r.key, err)
		return i, nil
	}
	for k := 0; n == r.Bytes && k < i.head.Blocks(); k++ {
		off, size := i.head.Range(k)
		x.blocks.put(blockName{r.key, k}, b[off:off+size])
	}
	return i, nil
}

// Pieces in which an index is read: so many blocks, when so much was found.
const (
	fewHits  = 8
	fewRead  = 1
	manyRead = 32
)

// block returns a block of an index, nil if it is of no use.
func (x *Indexes) block(ctx context.Context, i *index, n int) ([]byte, error) {
	if b, ok := x.blocks.get(blockName{i.key, n}); ok {
		return b, nil
	}
	first, count := n, fewRead
	if i.hits.Add(1) > fewHits {
		first, count = n/manyRead*manyRead, manyRead
	}
	count = min(count, i.head.Blocks()-first)
	from, _ := i.head.Range(first)
	last, size := i.head.Range(first + count - 1)
	b := make([]byte, last+size-from)
	err := resume.Fetch(ctx, x.store, i.key, b, from)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		x.blocks.put(blockName{i.key, n}, nil)
		return nil, nil
	case errors.Is(err, resume.ErrShort):
		x.damaged(i.key, err)
		x.blocks.put(blockName{i.key, n}, nil)
		return nil, nil
	case err != nil:
		return nil, err
	}
	var found []byte
	for k := range count {
		off, size := i.head.Range(first + k)
		one := b[off-from : off-from+size]
		if k == n-first {
			found = one
		}
		if count > 1 { // so that one which stays does not keep all of them
			one = append([]byte(nil), one...)
		}
		x.blocks.put(blockName{i.key, first + k}, one)
	}
	return found, nil
}
