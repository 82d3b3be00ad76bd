package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// worker owns its buffers and does everything about its slots.
type worker struct {
	j     *restoring
	read  *fetch.Reader
	plain *pagebuf.Buffer
	old   *pagebuf.Buffer // of the target; nil when it is not read
}

func newWorker(j *restoring) (*worker, error) {
	k := &worker{j: j}
	var err error
	if k.read, err = fetch.NewReader(j.snap, j.src); err != nil {
		return nil, err
	}
	if k.plain, err = pagebuf.New(int(j.src.ChunkSize) + fetch.Slack); err != nil {
		k.close()
		return nil, err
	}
	if j.in != nil {
		if k.old, err = pagebuf.New(int(j.src.ChunkSize)); err != nil {
			k.close()
			return nil, err
		}
	}
	return k, nil
}

func (k *worker) close() {
	k.read.Close()
	k.plain.Free()
	k.old.Free()
}

// run works until the plan is at its end.
func (k *worker) run(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		depth := 0
		if k.j.prefetcher != nil {
			depth = k.j.ahead.depth()
		}
		s, soon, ok, err := k.j.plan.take(depth)
		if err != nil || !ok {
			return err
		}
		if len(soon) > 0 {
			k.j.prefetcher.Prefetch(soon)
		}
		switch s.what {
		case sameRun:
			err = k.same(ctx, s)
		case zeroRun:
			err = k.zeros(ctx, s)
		case chunkSlot:
			err = k.chunk(ctx, s)
		}
		if err != nil {
			return err
		}
		if s.done != nil {
			close(s.done) // the next one has its turn
		}
	}
}

// await waits for the turn of a step; without an order there is no wait.
func await(ctx context.Context, s step) error {
	if s.turn == nil {
		return nil
	}
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (k *worker) same(ctx context.Context, s step) error {
	if err := await(ctx, s); err != nil {
		return err
	}
	_, n := k.span(s)
	k.j.each(func(c *Counters) { c.same.add(int64(s.n), n) })
	return nil
}

// span is where in the image a step works.
func (k *worker) span(s step) (off, n int64) {
	start, _ := k.j.src.Bounds(s.first)
	_, end := k.j.src.Bounds(s.first + s.n - 1)
	return start, end - start
}

// zeros makes slots read as zeros.
func (k *worker) zeros(ctx context.Context, s step) error {
	if err := await(ctx, s); err != nil {
		return err
	}
	off, n := k.span(s)
	if !k.j.to.Fresh() {
		if err := k.zeroRange(ctx, off, n); err != nil {
			return err
		}
	}
	k.j.each(func(c *Counters) { c.zero.add(int64(s.n), n) })
	return nil
}

// chunk makes one slot read as its chunk.
func (k *worker) chunk(ctx context.Context, s step) error {
	off, n := k.span(s)
	begin := time.Now()
	known := false
	if k.j.in != nil {
		if err := k.look(k.old.Bytes()[:n], off); err != nil {
			return err
		}
		known = true
		if k.j.plan.base == nil && fetch.Digest(k.j.src.Key, k.old.Bytes()[:n]) == s.digest {
			return k.same(ctx, s)
		}
	}
	plain := k.plain.Bytes()[:n]
	err := k.fetch(ctx, s.digest, plain, begin)
	if err != nil {
		err = &ChunkError{Archive: k.j.src.Name, Offset: off, Length: n, Digest: s.digest, Err: err}
		if !k.j.opts.AllowHoles || !fetch.IsDamage(err) {
			return err
		}
	}
	if werr := await(ctx, s); werr != nil {
		return werr
	}
	if err != nil {
		return k.hole(ctx, off, n, err)
	}
	if known {
		err = k.writeChanges(plain, k.old.Bytes()[:n], off)
	} else {
		err = k.writeRuns(plain, off)
	}
	if err != nil {
		return err
	}
	k.j.each(func(c *Counters) {
		c.fetched.add(1, n)
		c.encoded.Add(int64(k.read.Encoded()))
	})
	return nil
}

// fetch reads a chunk and adapts the read-ahead.
func (k *worker) fetch(ctx context.Context, d digest.Digest, plain []byte, begin time.Time) error {
	if err := k.read.Read(ctx, d, plain); err != nil {
		return err
	}
	k.j.ahead.note(k.read.Waited(), time.Since(begin))
	return k.j.limit.Wait(ctx, k.read.Encoded())
}

// hole leaves zeros where a chunk should be.
func (k *worker) hole(ctx context.Context, off, n int64, reason error) error {
	if !k.j.to.Fresh() {
		if err := k.zeroRange(ctx, off, n); err != nil {
			return err
		}
	}
	k.j.holes.add(image.Range{Offset: off, Length: n}, reason)
	k.j.each(func(c *Counters) { c.holes.add(1, n) })
	return nil
}

// look reads what the target holds.
func (k *worker) look(p []byte, off int64) error {
	n, err := k.j.in.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the target at offset %d, to compare: %w", off+int64(n), err)
}
