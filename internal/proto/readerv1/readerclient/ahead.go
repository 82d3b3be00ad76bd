package readerclient

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// MaxAhead is how many chunks are on their way, or wait to be read.
const MaxAhead = 16

// poolLimit is what is kept of buffers between chunks, in bytes.
const poolLimit = 64 << 20

// ahead fetches chunks before they are asked for.
type ahead struct {
	p    *Snapshot
	pool *pagebuf.Pool
	wg   sync.WaitGroup

	mu    sync.Mutex
	items map[digest.Digest]*item
	order []*item // of items, oldest first
	over  bool
}

// item is a chunk on its way. Its fields are valid when done is closed; whoever
// takes it off the map owns buf.
type item struct {
	name   digest.Digest
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}
	buf    *pagebuf.Buffer
	raw    []byte // in buf
	err    error
}

func newItem(ctx context.Context, d digest.Digest) *item {
	it := &item{name: d, done: make(chan struct{})}
	it.ctx, it.cancel = context.WithCancel(ctx)
	return it
}

func newAhead(p *Snapshot) *ahead {
	return &ahead{p: p, pool: pagebuf.NewPool(poolLimit), items: map[digest.Digest]*item{}}
}

// begin fetches chunks. When there are too many, the oldest that nobody has asked
// for was a wrong guess.
func (a *ahead) begin(ds []digest.Digest) {
	if len(ds) > MaxAhead {
		ds = ds[:MaxAhead]
	}
	var wrong []*item
	a.mu.Lock()
	wanted := map[digest.Digest]bool{}
	for _, d := range ds {
		wanted[d] = true
	}
	for _, d := range ds {
		if a.over || a.items[d] != nil {
			continue
		}
		if len(a.items) >= MaxAhead {
			old := a.oldest(wanted)
			if old == nil {
				break
			}
			wrong = append(wrong, old)
		}
		it := newItem(a.p.ctx, d)
		a.items[d] = it
		a.order = append(a.order, it)
		a.wg.Go(func() { a.fetch(it) })
	}
	a.mu.Unlock()
	for _, it := range wrong {
		a.drop(it)
	}
}

// oldest takes the oldest item that is not wanted off the list.
func (a *ahead) oldest(wanted map[digest.Digest]bool) *item {
	for _, it := range a.order {
		if !wanted[it.name] {
			a.remove(it)
			return it
		}
	}
	return nil
}

func (a *ahead) remove(it *item) {
	delete(a.items, it.name)
	for i, o := range a.order {
		if o == it {
			a.order = append(a.order[:i], a.order[i+1:]...)
			return
		}
	}
}

func (a *ahead) fetch(it *item) {
	defer close(it.done)
	it.raw, it.err = a.p.chunk(it.ctx, it.name, func(size int) ([]byte, error) {
		var err error
		if it.buf, err = a.pool.Get(max(size, 1)); err != nil {
			return nil, err
		}
		return it.buf.Bytes()[:size], nil
	})
}

// claim takes a chunk that is on its way; nil when it is not, or did not arrive:
// then it must be asked for. The caller drops it.
func (a *ahead) claim(ctx context.Context, d digest.Digest) (*item, error) {
	a.mu.Lock()
	it := a.items[d]
	if it != nil {
		a.remove(it)
	}
	a.mu.Unlock()
	if it == nil {
		return nil, nil
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		a.drop(it)
		return nil, context.Cause(ctx)
	}
	if it.err != nil {
		a.drop(it)
		return nil, nil
	}
	return it, nil
}

// drop gives up an item that is off the list.
func (a *ahead) drop(it *item) {
	it.cancel()
	select {
	case <-it.done:
		a.pool.Put(it.buf)
	default:
		a.wg.Go(func() {
			<-it.done
			a.pool.Put(it.buf)
		})
	}
}

// close waits for everything, after the connection has ended.
func (a *ahead) close() {
	a.mu.Lock()
	a.over = true
	rest := a.order
	a.items, a.order = map[digest.Digest]*item{}, nil
	a.mu.Unlock()
	for _, it := range rest {
		a.drop(it)
	}
	a.wg.Wait()
	a.pool.Close()
}
