// Package ahead fetches the chunks of a snapshot before they are asked for, so
// that what a network takes to answer is not waited for again and again. It is for
// snapshots whose chunks come one by one.
//
// Chunks that were announced wait in a line, of which as many are on their way
// as the limits allow. Whoever asks for one that is there, or on its way, gets it,
// once; every other is fetched at once, past the line. What was announced and is
// not what is needed makes room: the oldest, when many others were read since it was
// begun, or some one after the other that were not announced while the limits are used
// up. A few are no sign of that: a reader's first chunks are asked for, not announced.
//
// # Memory
//
// Chunks lie in buffers outside the Go heap. How long one is, is known when it
// comes; until then it counts as those before it did on average. So the limit of
// bytes is met about, the limit of chunks exactly; what was asked for past the line
// comes on top.
package ahead

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// Limits bound what is on its way or waits to be read.
type Limits struct {
	Chunks int
	Bytes  int64
}

// Source brings an encoded chunk to where place says, which is asked when its size
// is known, and at most once. It is called by many at once.
type Source func(ctx context.Context, d digest.Digest, place func(size int) ([]byte, error)) ([]byte, error)

const (
	maxLine   = 1024    // chunks that are announced and not on their way
	surprises = 16      // chunks in a row that were not announced
	firstLen  = 2 << 20 // bytes that a chunk is taken to have when none has come yet
)

// Fetcher fetches chunks. Its methods are safe for concurrent use.
type Fetcher struct {
	limits Limits
	get    Source
	pool   *pagebuf.Pool
	wg     sync.WaitGroup
	ctx    context.Context // of what is fetched ahead
	stop   context.CancelFunc

	mu    sync.Mutex
	line  []digest.Digest // announced, not begun
	items map[digest.Digest]*item
	order []*item // of items, oldest first
	held  int     // items that are on their way, wait, or are being read
	bytes int64   // what they count for
	mean  int64   // bytes of a chunk
	reads int     // chunks that were asked for
	alien int     // of them, in a row, those that were not announced
	over  bool
}

// item is a chunk on its way. Its fields are valid when done is closed; whoever
// takes it off the map owns buf.
type item struct {
	name   digest.Digest
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	counts int64 // towards the limit of bytes; under the lock
	born   int   // chunks that had been read when it was begun
	buf    *pagebuf.Buffer
	raw    []byte // in buf
	err    error
}

// New returns a fetcher that Close must end. What is fetched ahead ends with ctx.
func New(ctx context.Context, l Limits, get Source) *Fetcher {
	f := &Fetcher{limits: l, get: get, pool: pagebuf.NewPool(l.Bytes / 2), items: map[digest.Digest]*item{}, mean: firstLen}
	f.ctx, f.stop = context.WithCancel(ctx)
	return f
}

// Prefetch says that these chunks will be read soon, in this order.
func (f *Fetcher) Prefetch(ds []digest.Digest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range ds {
		if len(f.line) < maxLine && f.items[d] == nil && !f.waits(d) {
			f.line = append(f.line, d)
		}
	}
	f.advance()
}

func (f *Fetcher) waits(d digest.Digest) bool {
	for _, w := range f.line {
		if w == d {
			return true
		}
	}
	return false
}

// advance begins what the limits allow. It is called under the lock.
func (f *Fetcher) advance() {
	n := 0
	for ; n < len(f.line) && !f.over; n++ {
		if !f.room() {
			f.giveUp(func(it *item) bool { return f.reads-it.born >= 2*f.limits.Chunks+surprises })
			break
		}
		it := f.newItem(f.ctx, f.line[n])
		f.items[it.name] = it
		f.order = append(f.order, it)
		f.wg.Go(func() { f.fetch(it) })
	}
	f.line = append(f.line[:0], f.line[n:]...)
}

// giveUp takes the oldest item off the list if it was a wrong guess, and drops it.
func (f *Fetcher) giveUp(wrong func(*item) bool) {
	if len(f.order) == 0 || !wrong(f.order[0]) {
		return
	}
	it := f.order[0]
	f.remove(it)
	f.wg.Go(func() {
		it.cancel()
		<-it.done
		f.free(it)
	})
}

func (f *Fetcher) room() bool {
	return f.held == 0 || f.held < f.limits.Chunks && f.bytes+f.mean <= f.limits.Bytes
}

// newItem makes an item that counts. It is called under the lock.
func (f *Fetcher) newItem(ctx context.Context, d digest.Digest) *item {
	it := &item{name: d, done: make(chan struct{}), counts: f.mean, born: f.reads}
	it.ctx, it.cancel = context.WithCancel(ctx)
	f.held++
	f.bytes += it.counts
	return it
}

func (f *Fetcher) fetch(it *item) {
	defer close(it.done)
	it.raw, it.err = f.get(it.ctx, it.name, func(size int) ([]byte, error) {
		var err error
		if it.buf, err = f.pool.Get(max(size, 1)); err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.bytes += int64(size) - it.counts
		it.counts = int64(size)
		f.mean = max(1, (7*f.mean+int64(size))/8)
		f.mu.Unlock()
		return it.buf.Bytes()[:size], nil
	})
}

// Read appends an encoded chunk to buf[:0].
func (f *Fetcher) Read(ctx context.Context, d digest.Digest, buf []byte) ([]byte, error) {
	it, err := f.claim(ctx, d)
	if err != nil {
		return buf[:0], err
	}
	if it != nil {
		defer f.drop(it)
		return append(buf[:0], it.raw...), nil
	}
	raw, err := f.get(ctx, d, func(size int) ([]byte, error) {
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		return buf[:size], nil
	})
	if err != nil {
		return buf[:0], err
	}
	return raw, nil
}

// Lend returns an encoded chunk where it lies. It is the caller's until back is
// called, which must be before Close.
func (f *Fetcher) Lend(ctx context.Context, d digest.Digest) (raw []byte, back func(), err error) {
	it, err := f.claim(ctx, d)
	if err != nil {
		return nil, nil, err
	}
	if it == nil {
		f.mu.Lock()
		it = f.newItem(ctx, d)
		f.mu.Unlock()
		if f.fetch(it); it.err != nil {
			f.drop(it)
			return nil, nil, it.err
		}
	}
	return it.raw, func() { f.drop(it) }, nil
}

// claim takes a chunk that is on its way; nil when it is not, or did not arrive:
// then it must be asked for. The caller drops it.
func (f *Fetcher) claim(ctx context.Context, d digest.Digest) (*item, error) {
	it := f.take(d)
	if it == nil {
		return nil, nil
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		f.drop(it)
		return nil, context.Cause(ctx)
	}
	if it.err != nil {
		f.drop(it)
		return nil, nil
	}
	return it, nil
}

// take takes an item off the list; nil when there is none.
func (f *Fetcher) take(d digest.Digest) *item {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if it := f.items[d]; it != nil {
		f.alien = 0
		f.remove(it)
		return it
	}
	for i, w := range f.line {
		if w == d {
			f.alien = 0
			f.line = append(f.line[:i], f.line[i+1:]...)
			return nil
		}
	}
	if f.alien++; f.alien > surprises && !f.room() && !f.over {
		f.giveUp(func(*item) bool { return true })
	}
	return nil
}

func (f *Fetcher) remove(it *item) {
	delete(f.items, it.name)
	for i, o := range f.order {
		if o == it {
			f.order = append(f.order[:i], f.order[i+1:]...)
			return
		}
	}
}

// drop gives up an item that is off the list, and begins what it held up.
func (f *Fetcher) drop(it *item) {
	it.cancel()
	select {
	case <-it.done:
		f.free(it)
	default:
		f.wg.Go(func() {
			<-it.done
			f.free(it)
		})
	}
}

func (f *Fetcher) free(it *item) {
	f.pool.Put(it.buf)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held--
	f.bytes -= it.counts
	f.advance()
}

// Close ends what is on its way and waits for it.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.over = true
	rest := f.order
	f.items, f.order, f.line = map[digest.Digest]*item{}, nil, nil
	f.mu.Unlock()
	f.stop()
	for _, it := range rest {
		f.drop(it)
	}
	f.wg.Wait()
	f.pool.Close()
}
