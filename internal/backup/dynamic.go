package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Cutter finds where the chunks of a stream end.
type Cutter interface {
	// Max is the size of the largest chunk, in bytes.
	Max() int
	// Scan looks at the next bytes of the stream. It returns how many of them
	// belong to the current chunk, up to and including its last, or 0 when all
	// do and the chunk goes on.
	Scan(p []byte) int
	// Reset says that the stream was cut before the next byte.
	Reset()
}

// Reused is a chunk that the repository has for certain, because the previous
// snapshot's index names it.
type Reused struct {
	Digest digest.Digest
	Length int // plain bytes
}

// Dynamic is a dynamic archive being written. Bytes are cut into chunks where
// the [Cutter] says, or by the owner with Append and Cut; known chunks may stand
// between. The workers of the [Writer] do the rest, and entries get into the index
// in order.
//
// Each Dynamic belongs to one goroutine, and a Writer may have several at a
// time, as a split archive needs. Images may be written meanwhile, as long as
// nobody writes to a Dynamic.
// The methods wait while the workers are behind. After the first error every
// method returns it, and the session must be aborted.
type Dynamic struct {
	w    *Writer
	ctx  context.Context
	name names.Archive
	cut  Cutter
	max  int
	dw   repo.DynamicWriter
	prev *Known
	why  string
	stop func() bool // forgets ctx

	count *Counters

	buf   *pagebuf.Buffer // of the current chunk; nil: it has no bytes yet
	fill  int
	start int64 // of the current chunk
	rest  []byte

	// Under pump.mu:
	queue  []*slot // in order, not in the index yet
	busy   int     // chunks that a worker has or will have
	adding bool    // someone moves slots to the index
	end    uint64  // of the index so far
	spare  []*pagebuf.Buffer
	err    error
	over   bool // Close or Abort was called
}

// slot is a chunk on its way into the index.
type slot struct {
	digest digest.Digest
	length int
	done   bool
}

// Dynamic begins a dynamic archive. Close or Abort must be called; Abort after
// Close does nothing. When ctx ends, so does the archive.
func (w *Writer) Dynamic(ctx context.Context, name names.Archive, cut Cutter) (*Dynamic, error) {
	if _, err := names.ParseArchive(string(name)); err != nil {
		return nil, err
	}
	if name.Kind() != names.Didx {
		return nil, fmt.Errorf("archive %s: a file archive needs a name that ends in .pxar, .mpxar, .ppxar, .pcat1 or .didx", name)
	}
	if most := cut.Max(); most < 1 || most > blob.MaxChunk {
		return nil, fmt.Errorf("archive %s: chunks of up to %d bytes: want at most %d", name, most, blob.MaxChunk)
	}
	d := &Dynamic{w: w, ctx: ctx, name: name, cut: cut, max: cut.Max(), count: new(Counters)}
	d.prev, d.why = w.Known(name)
	var err error
	if d.dw, err = w.s.CreateDynamic(name); err == nil {
		err = w.chunks.begin(w, d)
	}
	if err != nil {
		d.prev.Close()
		return nil, fmt.Errorf("archive %s: %w", name, firstError(ctx, err))
	}
	return d, nil
}

// DynamicFrom writes a dynamic archive that comes from a reader. A read that
// hangs holds it up, even when ctx ends.
func (w *Writer) DynamicFrom(ctx context.Context, name names.Archive, cut Cutter, r io.Reader) (Result, error) {
	d, err := w.Dynamic(ctx, name, cut)
	if err != nil {
		return Result{}, err
	}
	defer d.Abort()
	for {
		room, err := d.room()
		if err != nil {
			return Result{}, err
		}
		n, err := r.Read(room[:min(len(room), readSize)])
		if n > 0 {
			if err := d.took(room[:n]); err != nil {
				return Result{}, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return d.Close()
		case err != nil:
			return Result{}, fmt.Errorf("archive %s: read at offset %d: %w", name, d.Offset(), firstError(ctx, err))
		}
	}
}

// readSize is how much is read at a time, and the most that is copied behind a
// cut.
const readSize = 256 << 10

// room is what is left of the buffer of the current chunk.
func (d *Dynamic) room() ([]byte, error) {
	if err := d.failed(); err != nil {
		return nil, err
	}
	if d.buf == nil {
		var err error
		if d.buf, err = d.buffer(); err != nil {
			return nil, d.fail(err)
		}
	}
	if d.fill == d.max {
		return nil, d.fail(fmt.Errorf("internal error: a chunk of more than %d bytes", d.max))
	}
	return d.buf.Bytes()[d.fill:d.max], nil
}

// took adds bytes that stand in the room already.
func (d *Dynamic) took(p []byte) error {
	k := d.cut.Scan(p)
	n := k
	if k == 0 {
		n = len(p)
	}
	d.fill += n
	d.countRead(n)
	if k == 0 {
		return nil
	}
	d.rest = append(d.rest[:0], p[k:]...) // what is sent belongs to the workers
	if err := d.send(); err != nil {
		return err
	}
	_, err := d.Write(d.rest)
	return err
}

func (d *Dynamic) countRead(n int) {
	d.count.read.Add(int64(n))
	d.w.opts.Counters.read.Add(int64(n))
}

// Offset is the size of the archive so far: what was written, and what was
// reused.
func (d *Dynamic) Offset() int64 { return d.start + int64(d.fill) }

// Write appends bytes, cut where the Cutter says.
func (d *Dynamic) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k := d.cut.Scan(p[n:])
		part := p[n:]
		if k > 0 {
			part = part[:k]
		}
		if err := d.Append(part); err != nil {
			return n, err
		}
		n += len(part)
		if k > 0 {
			if err := d.send(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// Append adds bytes to the current chunk, which nobody looks at.
func (d *Dynamic) Append(p []byte) error {
	if len(p) == 0 {
		return d.failed()
	}
	room, err := d.room()
	if err != nil {
		return err
	}
	if len(p) > len(room) {
		return d.fail(fmt.Errorf("internal error: a chunk of more than %d bytes", d.max))
	}
	d.fill += copy(room, p)
	d.countRead(len(p))
	return nil
}

// Cut ends the current chunk, if it has bytes, whatever its size.
func (d *Dynamic) Cut() error {
	if d.fill > 0 {
		d.cut.Reset()
	}
	return d.send()
}

// send hands the current chunk to the workers.
func (d *Dynamic) send() error {
	if d.fill == 0 {
		return d.failed()
	}
	if err := d.w.limit.Wait(d.ctx, d.fill); err != nil {
		return d.fail(err)
	}
	j := job{d: d, buf: d.buf, data: d.buf.Bytes()[:d.fill], at: d.start, slot: &slot{length: d.fill}}
	if err := d.w.chunks.put(j); err != nil {
		return err
	}
	d.start += int64(d.fill)
	d.buf, d.fill = nil, 0
	return nil
}

// maxQueue is how many chunks may wait for one before them: 16 Ki slots are
// about 1 MiB.
const maxQueue = 16 << 10

// Inject ends the current chunk and appends known ones.
func (d *Dynamic) Inject(chunks []Reused) error {
	if err := d.Cut(); err != nil {
		return err
	}
	for _, c := range chunks {
		if c.Length < 1 || c.Length > blob.MaxChunk {
			return d.fail(fmt.Errorf("internal error: a reused chunk of %d bytes", c.Length))
		}
	}
	if err := d.w.chunks.inject(d, chunks); err != nil {
		return err
	}
	for _, c := range chunks {
		d.start += int64(c.Length)
		d.count.unchanged.add(1, int64(c.Length))
		d.w.opts.Counters.unchanged.add(1, int64(c.Length))
	}
	return nil
}

// Close ends the last chunk, waits for the workers and completes the index.
func (d *Dynamic) Close() (Result, error) {
	err := d.Cut()
	if err == nil {
		err = d.w.chunks.wait(d)
	}
	if err == nil && d.start == 0 {
		err = fmt.Errorf("archive %s: %w", d.name, errEmptyArchive)
	}
	d.Abort() // frees what is held
	if err != nil {
		return Result{}, err
	}
	r := Result{NotReused: d.why, Stats: d.count.Load()}
	if done := r.Stats.Done(); done != d.start || d.end != uint64(done) {
		return Result{}, fmt.Errorf("archive %s: internal error: %d bytes of %d have a digest", d.name, done, d.start)
	}
	size, sum, err := d.dw.Close()
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", d.name, err)
	}
	r.Archive = manifest.File{Filename: string(d.name), CryptMode: d.w.opts.CryptMode, Size: size, Csum: sum}
	d.w.list(r.Archive)
	return r, nil
}

// errEmptyArchive is for archives without a byte, for which the format has no
// index.
var errEmptyArchive = errors.New("it is empty, and an archive cannot be")

// Abort gives an archive up. It returns when no worker has to do with it.
func (d *Dynamic) Abort() {
	d.w.chunks.end(d)
	d.buf.Free()
	d.buf, d.fill = nil, 0
	d.prev.Close()
	d.prev = nil
}

// failed returns the first error.
func (d *Dynamic) failed() error {
	p := &d.w.chunks
	p.mu.Lock()
	defer p.mu.Unlock()
	return d.state()
}

// state is failed under the lock.
func (d *Dynamic) state() error {
	switch {
	case d.err != nil:
		return d.err
	case d.over:
		return fmt.Errorf("archive %s: it is closed", d.name)
	case d.ctx.Err() != nil:
		return d.set(d.ctx.Err())
	}
	return nil
}

// fail ends the archive, unless something else did before, and says why.
func (d *Dynamic) fail(err error) error {
	p := &d.w.chunks
	p.mu.Lock()
	defer p.mu.Unlock()
	return d.set(err)
}

func (d *Dynamic) set(err error) error {
	if d.err == nil {
		d.err = fmt.Errorf("archive %s: %w", d.name, firstError(d.ctx, err))
		d.w.chunks.changed.Broadcast()
	}
	return d.err
}

// buffer returns one for a chunk of the largest size. Only what is used of it
// takes memory.
func (d *Dynamic) buffer() (*pagebuf.Buffer, error) {
	p := &d.w.chunks
	p.mu.Lock()
	n := len(d.spare)
	if n == 0 {
		p.mu.Unlock()
		return pagebuf.New(d.max)
	}
	b := d.spare[n-1]
	d.spare = d.spare[:n-1]
	p.mu.Unlock()
	return b, nil
}
