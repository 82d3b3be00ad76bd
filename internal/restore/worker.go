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
	plain [lanes]*pagebuf.Buffer
	old   [lanes]*pagebuf.Buffer // of the target; nil when it is not read
	chunk [lanes]fetch.Chunk     // on their way
}

func newWorker(j *restoring) (*worker, error) {
	k := &worker{j: j}
	var err error
	if k.read, err = fetch.NewReader(j.snap, j.src); err != nil {
		return nil, err
	}
	for i := range lanes {
		k.plain[i], err = pagebuf.New(int(j.src.ChunkSize) + fetch.Slack)
		if err == nil && j.in != nil {
			k.old[i], err = pagebuf.New(int(j.src.ChunkSize))
		}
		if err != nil {
			k.close()
			return nil, err
		}
	}
	return k, nil
}

func (k *worker) close() {
	k.read.Close()
	pagebuf.FreeAll(k.plain[:])
	pagebuf.FreeAll(k.old[:])
}

// run works until the plan is at its end.
func (k *worker) run(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s, soon, ok, err := k.j.plan.take(k.depth())
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
		case chunkRun:
			err = k.chunks(ctx, s)
		}
		if err != nil {
			return err
		}
		if s.done != nil {
			close(s.done) // the next one has its turn
		}
	}
}

// depth is how far ahead the prefetcher is told.
func (k *worker) depth() int {
	switch {
	case k.j.prefetcher == nil:
		return 0
	case k.j.distance == 0:
		return k.j.ahead.depth()
	case k.compares() && !k.j.ahead.likely():
		return 0
	}
	return max(k.j.ahead.depth(), k.j.distance)
}

// compares reports whether the target is read to find out which chunks it has.
func (k *worker) compares() bool { return k.j.in != nil && k.j.plan.base == nil }

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
	k.countSame(s.n, n)
	return nil
}

func (k *worker) countSame(chunks int, bytes int64) {
	k.j.each(func(c *Counters) { c.same.add(int64(chunks), bytes) })
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

// slot is one chunk of a step.
type slot struct {
	off    int64
	digest digest.Digest
	plain  []byte
	old    []byte // what the target holds; nil when that is not known
	same   bool   // and that is right
	fetch  *fetch.Chunk
}

// chunks makes slots read as their chunks.
func (k *worker) chunks(ctx context.Context, s step) error {
	begin := time.Now()
	var room [lanes]slot
	slots := room[:s.n]
	for i := range slots {
		start, end := k.j.src.Bounds(s.first + i)
		slots[i] = slot{off: start, digest: s.digests[i], plain: k.plain[i].Bytes()[:end-start]}
		if k.j.in == nil {
			continue
		}
		slots[i].old = k.old[i].Bytes()[:end-start]
		if err := k.look(slots[i].old, start); err != nil {
			return err
		}
	}
	if k.compares() {
		k.compare(slots)
	}
	if err := k.fetch(ctx, slots, begin); err != nil {
		return err
	}
	if err := await(ctx, s); err != nil {
		return err
	}
	for i := range slots {
		if err := k.write(ctx, &slots[i]); err != nil {
			return err
		}
	}
	return nil
}

// compare finds the slots that the target has already.
func (k *worker) compare(slots []slot) {
	key := k.j.src.Key
	rest := slots
	for ; len(rest) >= 2; rest = rest[2:] {
		a, b := fetch.Digest2(key, rest[0].old, rest[1].old)
		rest[0].same, rest[1].same = a == rest[0].digest, b == rest[1].digest
	}
	for i := range rest {
		rest[i].same = fetch.Digest(key, rest[i].old) == rest[i].digest
	}
	for i := range slots {
		k.j.ahead.compared(!slots[i].same)
	}
}

// fetch reads the chunks of those slots that need it and adapts the
// read-ahead. What may become a hole is no error here.
func (k *worker) fetch(ctx context.Context, slots []slot, begin time.Time) error {
	chunks := k.chunk[:0]
	for i := range slots {
		if s := &slots[i]; !s.same {
			chunks = append(chunks, fetch.Chunk{Digest: s.digest, Data: s.plain})
			s.fetch = &chunks[len(chunks)-1]
		}
	}
	if len(chunks) == 0 {
		return nil
	}
	k.read.ReadAll(ctx, chunks)
	for i := range slots {
		s := &slots[i]
		if s.same || s.fetch.Err == nil {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return err // the chunk is not to blame
		}
		s.fetch.Err = &ChunkError{Archive: k.j.src.Name, Offset: s.off, Length: int64(len(s.plain)), Digest: s.digest, Err: s.fetch.Err}
		if !k.j.opts.AllowHoles || !fetch.IsDamage(s.fetch.Err) {
			return s.fetch.Err
		}
	}
	k.j.ahead.note(k.read.Waited(), time.Since(begin))
	return k.j.limit.Wait(ctx, k.read.Encoded())
}

// write brings one slot to the target.
func (k *worker) write(ctx context.Context, s *slot) (err error) {
	n := int64(len(s.plain))
	switch {
	case s.same:
		k.countSame(1, n)
		return nil
	case s.fetch.Err != nil:
		return k.hole(ctx, s.off, n, s.fetch.Err)
	case s.old != nil:
		err = k.writeChanges(s.plain, s.old, s.off)
	default:
		err = k.writeRuns(s.plain, s.off)
	}
	if err != nil {
		return err
	}
	k.j.each(func(c *Counters) {
		c.fetched.add(1, n)
		c.encoded.Add(int64(s.fetch.Encoded))
	})
	return nil
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
