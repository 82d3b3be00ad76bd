// Package archive is a disk image over an archive of a snapshot: what is mapped,
// served over NBD, or searched for files.
//
// A read of any size costs at least one chunk: it is fetched, decoded and
// checked in full, and kept for the next reads. Zeros are known by their digest
// and cost nothing. Reads of one chunk that come at the same time share one
// fetch.
//
// # Memory
//
// [Options.Cache] decoded chunks and [Options.Loaders] encoded ones, outside the
// Go heap, and nothing else that grows. Reads wait for each other when all are
// in use.
//
// # Errors
//
// A chunk that is missing or damaged fails the reads that touch it, with its
// place, every time: failures are not cached. No byte that was not checked is
// ever returned.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Options bounds the memory of an image. The zero value is useful.
type Options struct {
	Cache   int // decoded chunks that are kept; 0: 8
	Loaders int // chunks that are fetched at a time; 0: by the number of CPUs, at most 4
}

// Image is an [image.Image]. Close must be called; the snapshot stays open.
type Image struct {
	ctx    context.Context // of all reads: ReadAt has none
	cancel context.CancelCauseFunc
	snap   repo.Snapshot
	x      *fetch.Image
	cache  *cache
}

var (
	_ image.Image    = (*Image)(nil)
	_ image.Extenter = (*Image)(nil)
	_ image.Adviser  = (*Image)(nil)
)

// Open opens a disk image of a snapshot. When ctx ends, so do all reads.
func Open(ctx context.Context, snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key, opts Options) (*Image, error) {
	if opts.Cache <= 0 {
		opts.Cache = 8
	}
	if opts.Loaders <= 0 {
		opts.Loaders = min(max(runtime.GOMAXPROCS(0), 2), 4)
	}
	x, err := fetch.Open(snap, name, key)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	i := &Image{ctx: ctx, cancel: cancel, snap: snap, x: x}
	i.cache = newCache(snap, x, opts)
	return i, nil
}

// Close ends reads that are on their way, waits for them and frees everything.
func (i *Image) Close() error {
	i.cancel(fs.ErrClosed)
	i.cache.close()
	return i.x.Close()
}

// Size is that of the image.
func (i *Image) Size() int64 { return int64(i.x.Size) }

// ChunkSize is the unit in which reads cost, in bytes.
func (i *Image) ChunkSize() int { return int(i.x.ChunkSize) }

// ReadAt reads plain data.
func (i *Image) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("archive %s: read at negative offset %d", i.x.Name, off)
	}
	n := 0
	for n < len(p) {
		slot, rel, ok := i.x.Find(off + int64(n))
		if !ok {
			return n, io.EOF
		}
		m, err := i.readSlot(p[n:], slot, int(rel))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSlot copies from one slot.
func (i *Image) readSlot(p []byte, slot, rel int) (int, error) {
	if i.ctx.Err() != nil {
		return 0, fmt.Errorf("archive %s: %w", i.x.Name, context.Cause(i.ctx))
	}
	d, err := i.x.Digest(slot)
	if err != nil {
		return 0, fmt.Errorf("archive %s: %w", i.x.Name, err)
	}
	length := i.x.Length(slot)
	p = p[:min(len(p), length-rel)]
	if i.x.IsZero(slot, d) {
		clear(p)
		return len(p), nil
	}
	e, err := i.cache.get(i.ctx, d, length)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = context.Cause(i.ctx)
		}
		start, end := i.x.Bounds(slot)
		return 0, fmt.Errorf("archive %s: bytes %d to %d cannot be read (chunk %s): %w", i.x.Name, start, end, d, err)
	}
	copy(p, e.data[rel:])
	i.cache.put(e)
	return len(p), nil
}

// ExtentAt knows zeros by their digest. An extent ends at the latest where the
// digests that are read at once end.
func (i *Image) ExtentAt(off int64) (image.Extent, error) {
	slot, rel, ok := i.x.Find(off)
	if !ok {
		return image.Extent{}, fmt.Errorf("archive %s: extent at %d of %d bytes", i.x.Name, off, i.x.Size)
	}
	var block [256]digest.Digest
	ds := block[:min(len(block), i.x.Count()-slot)]
	if err := i.x.Digests(slot, ds); err != nil {
		return image.Extent{}, fmt.Errorf("archive %s: %w", i.x.Name, err)
	}
	e := image.Extent{Offset: off, Length: -rel}
	if i.x.IsZero(slot, ds[0]) {
		e.Kind = image.Zero
	}
	for k, d := range ds {
		if i.x.IsZero(slot+k, d) != (e.Kind == image.Zero) {
			break
		}
		e.Length += int64(i.x.Length(slot + k))
	}
	return e, nil
}

// maxHint bounds how many chunks one hint names.
const maxHint = 16

// WillNeed passes the hint on to the snapshot, if it takes hints.
func (i *Image) WillNeed(off, n int64) {
	p, ok := i.snap.(fetch.Prefetcher)
	if !ok || n <= 0 {
		return
	}
	first, _, ok := i.x.Find(off)
	if !ok {
		return
	}
	last := i.x.Count() - 1
	if k, _, ok := i.x.Find(off + n - 1); ok {
		last = k
	}
	ds := make([]digest.Digest, min(last-first+1, maxHint))
	if err := i.x.Digests(first, ds); err != nil {
		return // the read will say so
	}
	soon := ds[:0]
	for k, d := range ds {
		if !i.x.IsZero(first+k, d) {
			soon = append(soon, d)
		}
	}
	p.Prefetch(soon)
}
