package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

// lanes is how many chunks a worker takes at a time, to hash them together.
const lanes = 2

// worker owns buffers and an encoder, and does everything about its slots.
type worker struct {
	w    *Writer
	bufs [lanes]*pagebuf.Buffer
	out  *pagebuf.Buffer
	enc  *blob.Encoder
	old  [512]digest.Digest // of the previous index, on their way
	slow bool               // the source is no cache: tell it what comes next
}

// piece is a slot with its data.
type piece struct {
	slot int
	data []byte
}

func newWorker(w *Writer) (*worker, error) {
	k := &worker{w: w}
	var err error
	for i := range k.bufs {
		if k.bufs[i], err = pagebuf.New(w.opts.ChunkSize); err != nil {
			k.close()
			return nil, err
		}
	}
	if k.out, err = pagebuf.New(blob.MaxEncoded(w.opts.ChunkSize)); err != nil {
		k.close()
		return nil, err
	}
	if k.enc, err = blob.NewEncoder(w.opts.chunkKey(), w.opts.Rand, !w.opts.NoCompress); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

func (k *worker) close() {
	pagebuf.FreeAll(k.bufs[:])
	k.out.Free()
	if k.enc != nil {
		k.enc.Close()
	}
}

// image works until the plan is at its end.
func (k *worker) image(ctx context.Context, a *archive, p *plan) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r, ok, err := p.next(lanes)
		if err != nil || !ok {
			return err
		}
		switch r.kind {
		case image.Zero:
			err = k.zeros(ctx, a, r.first, r.n)
		case image.Unchanged:
			err = k.unchanged(a, r.first, r.n)
		case image.Data:
			err = k.data(ctx, a, p.img, r)
		}
		if err != nil {
			return err
		}
		if r.kind != image.Unchanged { // that was never asked for
			image.Consumed(p.img, int64(r.first)*int64(a.chunk), a.span(r.first, r.n))
		}
	}
}

// data reads the slots of a run and finds their digests.
func (k *worker) data(ctx context.Context, a *archive, img image.Image, r run) error {
	var pieces [lanes]piece
	k.hint(a, img, r)
	begin, total := time.Now(), 0
	for i := range r.n {
		slot := r.first + i
		off := int64(slot) * int64(a.chunk)
		buf := k.bufs[i].Bytes()[:min(int64(a.chunk), a.size-off)]
		if err := k.read(ctx, a, img, buf, off, r.mixed); err != nil {
			return err
		}
		pieces[i] = piece{slot, buf}
		total += len(buf)
	}
	k.slow = time.Since(begin) > time.Duration(total)*time.Second/cacheRate
	return k.place(ctx, a, pieces[:r.n])
}

// cacheRate is what reading from memory exceeds and from disks does not, in
// bytes a second.
const cacheRate = 1 << 30

// hint lets the source fetch what a worker will ask for when all others have
// taken their turn, so that the disk works while the workers compute.
func (k *worker) hint(a *archive, img image.Image, r run) {
	step := int64(lanes) * int64(a.chunk)
	skip := step * int64(len(k.w.workers)-1)
	if k.slow && r.ahead > skip {
		end := int64(r.first+r.n) * int64(a.chunk)
		image.WillNeed(img, end+skip, min(step, r.ahead-skip))
	}
}

// minHole is the shortest range of zeros inside a slot for which a read is
// split.
const minHole = 64 << 10

// read fills p from the image at off. In a mixed slot holes are not read: the
// kernel would fill its cache with their zeros.
func (k *worker) read(ctx context.Context, a *archive, img image.Image, p []byte, off int64, mixed bool) error {
	for len(p) > 0 {
		n, hole := len(p), 0
		if mixed {
			var err error
			if n, hole, err = untilHole(img, off, len(p)); err != nil {
				return err
			}
		}
		if err := k.readFull(ctx, a, img, p[:n], off); err != nil {
			return err
		}
		clear(p[n : n+hole])
		p, off = p[n+hole:], off+int64(n+hole)
	}
	return nil
}

// untilHole returns how many of the next most bytes at off must be read before
// a hole worth skipping, and the length of the hole.
func untilHole(img image.Image, off int64, most int) (n, hole int, err error) {
	size := img.Size()
	for n+hole < most {
		e, err := extentAt(img, off+int64(n+hole), size)
		if err != nil {
			return 0, 0, err
		}
		length := int(min(e.Length, int64(most-n-hole)))
		switch {
		case e.Kind == image.Zero:
			hole += length
		case hole >= minHole:
			return n, hole, nil
		default:
			n, hole = n+hole+length, 0
		}
	}
	if hole < minHole && n > 0 {
		return n + hole, 0, nil
	}
	return n, hole, nil
}

func (k *worker) readFull(ctx context.Context, a *archive, img image.Image, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := k.w.limit.Wait(ctx, len(p)); err != nil {
		return err
	}
	n, err := img.ReadAt(p, off)
	if n < len(p) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read at offset %d: %w", off+int64(n), err)
	}
	a.count.read.Add(int64(n))
	k.w.opts.Counters.read.Add(int64(n))
	return nil
}

// place gives every piece its digest: zeros first, the others hashed together.
func (k *worker) place(ctx context.Context, a *archive, pieces []piece) error {
	rest := make([]piece, 0, lanes)
	for _, p := range pieces {
		if !zero.Is(p.data) {
			rest = append(rest, p)
			continue
		}
		if err := k.zero(ctx, a, p.slot, len(p.data)); err != nil {
			return k.at(a, p.slot, err)
		}
	}
	var sums [lanes]digest.Digest
	k.hash(sums[:], rest)
	for i, p := range rest {
		if err := k.chunk(ctx, a, p, sums[i]); err != nil {
			return k.at(a, p.slot, err)
		}
	}
	return nil
}

func (k *worker) hash(sums []digest.Digest, pieces []piece) {
	key := k.w.opts.chunkKey()
	for ; len(pieces) >= 2; sums, pieces = sums[2:], pieces[2:] {
		sums[0], sums[1] = digestOf2(key, pieces[0].data, pieces[1].data)
	}
	if len(pieces) > 0 {
		sums[0] = digestOf(key, pieces[0].data)
	}
}

// chunk stores one chunk unless it is known, and sets its slot.
func (k *worker) chunk(ctx context.Context, a *archive, p piece, d digest.Digest) error {
	known, err := a.prev.has(p.slot, d)
	if err != nil {
		return err
	}
	var encoded int
	if !known {
		if known, encoded, err = k.store(ctx, d, p.data); err != nil {
			return err
		}
	}
	if err := a.fw.Set(p.slot, d); err != nil {
		return err
	}
	k.count(a.count, len(p.data), known, encoded)
	return nil
}

// count counts a chunk that was read.
func (k *worker) count(of *Counters, plain int, known bool, encoded int) {
	for _, c := range [...]*Counters{of, k.w.opts.Counters} {
		if known {
			c.known.add(1, int64(plain))
		} else {
			c.stored.add(1, int64(plain))
		}
		c.encoded.Add(int64(encoded))
	}
}

// store makes sure that the repository has the chunk.
func (k *worker) store(ctx context.Context, d digest.Digest, plain []byte) (known bool, encoded int, err error) {
	if k.w.seen.has(d) {
		return true, 0, nil
	}
	if known, err = k.w.s.Has(ctx, d); err != nil {
		return false, 0, err
	}
	if !known {
		raw, err := k.enc.Append(k.out.Bytes()[:0], plain)
		if err != nil {
			return false, 0, err
		}
		stored, err := k.w.s.Put(ctx, d, len(plain), raw)
		if err != nil {
			return false, 0, err
		}
		if known = !stored; stored {
			encoded = len(raw)
		}
	}
	k.w.seen.add(d)
	return known, encoded, nil
}

// unchanged takes digests over from the previous index.
func (k *worker) unchanged(a *archive, first, n int) error {
	bytes := a.span(first, n)
	chunks := int64(n)
	for n > 0 {
		old := k.old[:min(n, len(k.old))]
		if err := a.prev.idx.Digests(first, old); err != nil {
			return k.at(a, first, fmt.Errorf("previous index: %w", err))
		}
		if err := setDigests(a, first, old); err != nil {
			return k.at(a, first, err)
		}
		first, n = first+len(old), n-len(old)
	}
	a.count.unchanged.add(chunks, bytes)
	k.w.opts.Counters.unchanged.add(chunks, bytes)
	return nil
}

// span is the bytes of n slots from first on.
func (a *archive) span(first, n int) int64 {
	from := int64(first) * int64(a.chunk)
	to := from + int64(n)*int64(a.chunk)
	if a.size >= 0 {
		to = min(to, a.size)
	}
	return to - from
}

// at says where in the archive it happened.
func (k *worker) at(a *archive, slot int, err error) error {
	return fmt.Errorf("at offset %d: %w", int64(slot)*int64(a.chunk), err)
}
