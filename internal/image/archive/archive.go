// Package archive is a disk image over an archive of a snapshot: what is mapped,
// served over NBD, or searched for files.
//
// A read of any size costs at least one chunk: it is fetched, decoded and
// checked in full, and kept for the next reads. Zeros are known by their digest
// and cost nothing. Reads of one chunk that come at the same time share one
// fetch. What is in the cache is read without a system call and without
// allocating; [Image.TryReadAt] reads only that.
//
// # Cache
//
// A [Cache] serves all images and file archives of a process. Chunks are known by key and digest,
// so that snapshots share what they have in common. A chunk goes in the order
// in which it came, unless it was asked for again by other than a sequential
// reader: then it is kept, in up to half of the cache, so that a copy of a whole
// image does not drive out what is in use.
//
// # Ahead of the reads
//
// Reads that continue each other, in any order and with gaps of zeros, are
// followed: up to eight streams in an image, each with a window of chunks before
// it that doubles when its reader has to wait and is halved when chunks were
// fetched in vain. [Image.WillNeed] and the rest of a long read announce chunks in the same
// way. Half of the cache at most holds what was fetched ahead and not read yet;
// it never displaces what is kept or in use. A chunk that cannot be fetched ahead
// is no error until somebody reads it. A snapshot that is [fetch.Distant] hears of
// chunks some windows before they are fetched, and of those that readers wait for.
//
// # File archives
//
// [Dynamic] reads the bytes of a file archive in the same way, with chunks of any
// size up to 16 MiB. Readers that go from chunk to chunk are followed, eight at
// a time, each with a window that grows as it goes on; there are no zeros, hints
// or traces.
//
// # Traces
//
// A [Recorder] notes in which order the chunks of an image are first read, for
// [Image.Prefetch] to fetch them in that order next time, as far as the cache
// has room. Reads go first. The file is text, each line ended by a newline:
//
//	holdfast-trace 1
//	archive disk.img.fidx     name of the archive
//	size 34359738368          bytes of the image
//	chunk 4194304             bytes of a chunk
//	0-3                       slots 0, 1, 2, 3
//	4095                      slot 4095
//
// Numbers are decimal, without sign or leading zeros. A range rises; no slot comes
// twice or lies behind the end; slots of zeros are not listed. There are at most
// [MaxTrace] slots and 4 MiB. Everything else is refused with [ErrTrace].
//
// # Memory
//
// The decoded chunks of the cache; at most six encoded ones, together no more
// than 24 MiB or two; for each image 4 MiB of digests from its index, read in
// pages of 8 KiB as they are needed, for a file archive 5 MiB and 8 bytes for
// every 256 chunks; a [Recorder]'s list. Chunks lie outside the
// Go heap. Reads wait for each other when all chunks of the cache are in use.
//
// # Errors
//
// A chunk that is missing or damaged fails the reads that touch it, with its
// place, every time: failures are not cached, and what failed for one image is
// tried again for another. No byte that was not checked is ever returned.
package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Options says what an image shares and records. The zero value is useful.
type Options struct {
	Cache   *Cache    // nil: one of its own, of [DefaultCache] bytes
	Loaders int       // of a cache of its own: chunks fetched at a time; 0: by the number of CPUs
	Trace   *Recorder // notes what is read; may be nil
}

// Image is an [image.Image]. Close must be called; the snapshot stays open.
type Image struct {
	user
	x     *fetch.Image
	table table[digest.Digest]
	trace *Recorder
	ahead readAhead

	hints    bool // the snapshot takes them
	distance int  // chunks that it wants to hear of ahead; 0: it is near
}

var (
	_ image.Image    = (*Image)(nil)
	_ image.Extenter = (*Image)(nil)
	_ image.Adviser  = (*Image)(nil)
)

// Open opens a disk image of a snapshot. When ctx ends, so do all reads.
func Open(ctx context.Context, snap repo.Snapshot, name names.Archive, key *chunkcrypt.Key, opts Options) (*Image, error) {
	x, err := fetch.Open(snap, name, key)
	if err != nil {
		return nil, err
	}
	i := &Image{x: x, trace: opts.Trace}
	if err := i.trace.start(x); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	i.snap, i.key, i.most = snap, x.Key, i.ChunkSize()
	i.start(ctx, opts.Cache, opts.Loaders)
	i.table.count, i.table.read = x.Count(), x.Digests
	_, i.hints = snap.(fetch.Prefetcher)
	i.distance = fetch.Distance(snap, int64(x.ChunkSize))
	i.ahead.budget = aheadBudget(i.cache.limit, i.ChunkSize())
	i.ahead.work = make(chan struct{}, 1)
	i.ahead.streams.chunk = int64(x.ChunkSize)
	i.ahead.streams.zero = i.isZero
	return i, nil
}

// Close ends reads that are on their way, waits for them and frees everything
// but what a shared cache keeps.
func (i *Image) Close() error {
	if !i.end() {
		return nil
	}
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
	if i.ctx.Err() != nil {
		return 0, fmt.Errorf("archive %s: %w", i.x.Name, context.Cause(i.ctx))
	}
	r := reading{off: off, last: -1}
	if n := min(int64(len(p)), i.Size()-off); n > 0 {
		r.stream, r.sequential, r.wide = i.observe(off, n, false)
		r.last, _, _ = i.x.Find(off + n - 1)
	}
	n, err := i.read(p, &r)
	c := &i.count[uint(off>>12)%uint(len(i.count))]
	if err != nil && !errors.Is(err, io.EOF) {
		c.errors.Add(1)
		return n, err
	}
	c.reads.Add(1)
	c.bytes.Add(int64(n))
	return n, err
}

// reading is a read on its way.
type reading struct {
	off        int64
	last       int     // slot
	asked      int     // slots before this one are announced
	stream     *stream // that it belongs to; may be nil
	sequential bool
	wide       bool // of a stream that is faster than what is fetched for it
}

func (i *Image) read(p []byte, r *reading) (n int, err error) {
	for n < len(p) {
		slot, rel, ok := i.x.Find(r.off + int64(n))
		if !ok {
			return n, io.EOF
		}
		if r.last > slot {
			i.announce(slot, r)
		}
		m, ok := i.warm(p[n:], slot, int(rel), r.sequential)
		if !ok {
			m, err = i.cold(p[n:], slot, int(rel), r)
		}
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// announce has the other chunks of a long read fetched meanwhile.
func (i *Image) announce(slot int, r *reading) {
	first := max(slot+1, r.asked)
	last := min(r.last, slot+max(1, i.ahead.budget/2))
	if first <= last {
		i.ask(first, last)
		r.asked = last + 1
	}
}

// TryReadAt is ReadAt for what is at hand: the range must lie within the image,
// and every chunk of it be in the cache or known to be zero. It neither waits
// nor allocates. If it returns false, p holds nothing of use.
func (i *Image) TryReadAt(p []byte, off int64) bool {
	if off < 0 || off > i.Size()-int64(len(p)) || i.ctx.Err() != nil {
		return false
	}
	_, sequential, _ := i.observe(off, int64(len(p)), true)
	for n := 0; n < len(p); {
		slot, rel, _ := i.x.Find(off + int64(n))
		m, ok := i.warm(p[n:], slot, int(rel), sequential)
		if !ok {
			return false
		}
		n += m
	}
	c := &i.count[uint(off>>12)%uint(len(i.count))]
	c.reads.Add(1)
	c.bytes.Add(int64(len(p)))
	return true
}

// name is what the chunk of a slot is called in the cache.
func (i *Image) name(slot int, d digest.Digest) name {
	return name{digest: d, space: i.space, length: uint32(i.x.Length(slot))}
}

// isZero reports a slot that is known to be zero.
func (i *Image) isZero(slot int) bool {
	if slot >= i.x.Count() {
		return false
	}
	d, ok := i.table.peek(slot)
	return ok && i.x.IsZero(slot, d)
}

// warm copies from one slot what is there.
func (i *Image) warm(p []byte, slot, rel int, sequential bool) (n int, ok bool) {
	d, ok := i.table.peek(slot)
	if !ok {
		return 0, false
	}
	id := i.name(slot, d)
	p = p[:min(len(p), int(id.length)-rel)]
	count := &i.count[slot%len(i.count)]
	if i.x.IsZero(slot, d) {
		clear(p)
		count.zeros.Add(1)
		return len(p), true
	}
	e := i.cache.find(&id)
	if e == nil {
		return 0, false
	}
	if ok = e.err == nil; ok {
		i.cache.touch(e, sequential)
		copy(p, e.data[rel:])
		count.hits.Add(1)
	}
	i.cache.release(e)
	if ok && i.trace != nil {
		i.trace.note(slot)
	}
	return len(p), ok
}

// cold copies from one slot, whatever it takes.
func (i *Image) cold(p []byte, slot, rel int, r *reading) (int, error) {
	if !i.enter() {
		return 0, fmt.Errorf("archive %s: %w", i.x.Name, fs.ErrClosed)
	}
	defer i.leave()
	d, err := i.table.at(slot)
	if err != nil {
		return 0, fmt.Errorf("archive %s: %w", i.x.Name, err)
	}
	id := i.name(slot, d)
	p = p[:min(len(p), int(id.length)-rel)]
	count := &i.count[slot%len(i.count)]
	if i.x.IsZero(slot, d) {
		clear(p)
		count.zeros.Add(1)
		return len(p), nil
	}
	var beside func() batch
	if r.wide {
		beside = func() batch { return i.beside(slot) }
	}
	e, how, err := i.cache.get(i.ctx, &i.user, id, beside)
	if err != nil {
		if i.ctx.Err() != nil {
			err = context.Cause(i.ctx)
		}
		start, end := i.x.Bounds(slot)
		return 0, fmt.Errorf("archive %s: bytes %d to %d cannot be read (chunk %s): %w", i.x.Name, start, end, d, err)
	}
	i.cache.touch(e, r.sequential || how == missed)
	copy(p, e.data[rel:])
	i.cache.release(e)
	i.trace.note(slot)
	switch how {
	case hit:
		count.hits.Add(1)
	case shared:
		count.shared.Add(1)
	case missed:
		count.misses.Add(1)
	}
	if how != hit && r.stream != nil {
		i.late(r.stream)
	}
	return len(p), nil
}

// ExtentAt knows zeros by their digest. An extent ends at the latest where the
// digests that are read at once end.
func (i *Image) ExtentAt(off int64) (image.Extent, error) {
	slot, rel, ok := i.x.Find(off)
	if !ok {
		return image.Extent{}, fmt.Errorf("archive %s: extent at %d of %d bytes", i.x.Name, off, i.x.Size)
	}
	if !i.enter() {
		return image.Extent{}, fmt.Errorf("archive %s: %w", i.x.Name, fs.ErrClosed)
	}
	defer i.leave()
	e := image.Extent{Offset: off, Length: -rel}
	for k := slot; k < min(slot+maxExtent, i.x.Count()); k++ {
		d, err := i.table.at(k)
		if err != nil {
			return image.Extent{}, fmt.Errorf("archive %s: %w", i.x.Name, err)
		}
		kind := image.Data
		if i.x.IsZero(k, d) {
			kind = image.Zero
		}
		if k == slot {
			e.Kind = kind
		} else if kind != e.Kind {
			break
		}
		e.Length += int64(i.x.Length(k))
	}
	return e, nil
}

// maxExtent bounds how many slots one answer covers.
const maxExtent = 1024

// maxHint bounds how many chunks one hint names.
const maxHint = 16

// WillNeed has the range fetched into the cache, as far as there is room for
// what nobody has asked for yet, and passes the hint on to the snapshot.
func (i *Image) WillNeed(off, n int64) {
	first, _, ok := i.x.Find(off)
	if !ok || n <= 0 || !i.enter() {
		return
	}
	defer i.leave()
	last := i.x.Count() - 1
	if n <= i.Size()-off {
		last, _, _ = i.x.Find(off + n - 1)
	}
	last = min(last, first+maxHint-1)
	var soon []digest.Digest
	for k := first; k <= last; k++ {
		d, err := i.table.at(k)
		if err != nil {
			return // the read will say so
		}
		if id := i.name(k, d); !i.x.IsZero(k, d) && !i.cache.has(&id) {
			soon = append(soon, d)
		}
	}
	if len(soon) > 0 {
		i.hint(soon)
		i.ask(first, last)
	}
}

// hint tells the snapshot what will be fetched, if it takes hints.
func (i *Image) hint(ds []digest.Digest) {
	if p, ok := i.snap.(fetch.Prefetcher); ok {
		p.Prefetch(ds)
	}
}
