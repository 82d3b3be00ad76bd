package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"golang.org/x/sync/errgroup"
)

// Stream writes an image that comes once and in order. If src has a Size that
// is not [image.SizeUnknown], it must have that size. After an error the
// session must be aborted.
//
// A read that hangs cannot be interrupted from here. When ctx ends, Stream
// waits a moment for it and then returns; the goroutine that reads ends, and
// frees its buffers, when the read does.
func (w *Writer) Stream(ctx context.Context, name names.Archive, src image.Sequential) (Result, error) {
	if err := checkFixed(name); err != nil {
		return Result{}, err
	}
	size := int64(image.SizeUnknown)
	if s, ok := src.(interface{ Size() int64 }); ok {
		size = s.Size()
	}
	if size == 0 {
		return Result{}, fmt.Errorf("archive %s: %w", name, errEmpty)
	}
	w.chunks.pause()
	defer w.chunks.resume(w)
	prev, why := w.openPrevious(name)
	defer prev.close()
	fw, err := w.s.CreateFixed(name, size, w.opts.ChunkSize)
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, err)
	}
	a := &archive{name: name, size: size, chunk: w.opts.ChunkSize, prev: prev, count: new(Counters)}
	a.fw = fw
	if size < 0 {
		a.fw = &growing{fw: fw}
	}
	total, err := w.pump(ctx, a, src)
	if err == nil && total == 0 {
		err = errEmpty
	}
	if err != nil {
		return Result{}, fmt.Errorf("archive %s: %w", name, err)
	}
	a.size = total
	return w.finish(a, Result{NotReused: why, Unreadable: unreadable(src)})
}

// pump runs one reader and the workers.
func (w *Writer) pump(ctx context.Context, a *archive, src image.Sequential) (total int64, err error) {
	f := feeder{w: w, a: a, src: src}
	count := lanes * len(w.workers)
	f.free = make(chan *pagebuf.Buffer, count)
	f.full = make(chan feed, count)
	for range count {
		b, err := pagebuf.New(a.chunk)
		if err != nil {
			pagebuf.FreeAll(f.bufs)
			return 0, err
		}
		f.bufs = append(f.bufs, b)
		f.free <- b
	}

	g, gctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(f.full)
		f.err = f.read(gctx)
	}()
	for _, k := range w.workers {
		g.Go(func() error { return k.stream(gctx, a, &f) })
	}
	err = g.Wait()
	const patience = 500 * time.Millisecond
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
		pagebuf.FreeAll(f.bufs)
	case <-t.C: // only after an error: without one the workers saw full closed
		go func() {
			<-done
			pagebuf.FreeAll(f.bufs)
		}()
		return 0, firstError(ctx, err)
	}
	if err == nil {
		err = f.err
	}
	return f.total, firstError(ctx, err)
}

// feeder reads a stream into buffers that the workers send back.
type feeder struct {
	w    *Writer
	a    *archive
	src  image.Sequential
	bufs []*pagebuf.Buffer
	free chan *pagebuf.Buffer
	full chan feed

	total int64 // these two are valid after full is closed
	err   error
}

// feed is a slot on its way to a worker.
type feed struct {
	piece
	buf *pagebuf.Buffer
}

func (f *feeder) read(ctx context.Context) error {
	for slot := 0; ; slot++ {
		var buf *pagebuf.Buffer
		select {
		case buf = <-f.free:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := f.w.limit.Wait(ctx, f.a.chunk); err != nil {
			return err
		}
		n, err := f.src.Next(buf.Bytes())
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return err
		}
		if ctx.Err() != nil { // perhaps long ago, with nobody waiting any more
			return context.Cause(ctx)
		}
		if n > 0 {
			if slot == math.MaxInt32 {
				return fmt.Errorf("the stream has more than %d chunks of %d bytes", slot, f.a.chunk)
			}
			if err := f.pass(ctx, slot, buf, n); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

// pass hands n bytes to the workers.
func (f *feeder) pass(ctx context.Context, slot int, buf *pagebuf.Buffer, n int) error {
	f.total += int64(n)
	f.a.count.read.Add(int64(n))
	f.w.opts.Counters.read.Add(int64(n))
	if g, ok := f.a.fw.(*growing); ok {
		if err := g.Grow(f.total); err != nil {
			return err
		}
	}
	select {
	case f.full <- feed{piece{slot, buf.Bytes()[:n]}, buf}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stream works until the feeder has no more.
func (k *worker) stream(ctx context.Context, a *archive, f *feeder) error {
	var got [lanes]feed
	var pieces [lanes]piece
	for {
		n := 0
		select {
		case one, ok := <-f.full:
			if !ok {
				return nil
			}
			got[0], n = one, 1
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		for more := true; more && n < lanes; { // a second one, if it is there
			select {
			case one, ok := <-f.full:
				if more = ok; ok {
					got[n] = one
					n++
				}
			default:
				more = false
			}
		}
		for i := range n {
			pieces[i] = got[i].piece
		}
		if err := k.place(ctx, a, pieces[:n]); err != nil {
			return err
		}
		for i := range n {
			f.free <- got[i].buf // has room for all
		}
	}
}

// growing lets an index grow while slots are set.
type growing struct {
	mu sync.RWMutex
	fw repo.FixedWriter
}

func (g *growing) Set(i int, d digest.Digest) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.fw.Set(i, d)
}

func (g *growing) Grow(size int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fw.Grow(size)
}

func (g *growing) Close() (digest.Digest, error) { return g.fw.Close() }
