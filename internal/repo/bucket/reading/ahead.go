package reading

import (
	"context"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// Bounds of what is fetched ahead.
const (
	maxLine       = 4096 // chunks that are announced and not begun
	firstRequests = 8
	mostRequests  = 128
	enough        = 16 << 20 // bytes that are on their way or there

	// What is read in the order in which it was announced, by one reader, is asked
	// for after those that were announced before it. Several take turns.
	patience = 4
	lasts    = 64
)

// ahead fetches chunks before they are asked for.
type ahead struct {
	p    *Snapshot
	pool *pagebuf.Pool
	wg   sync.WaitGroup
	work chan struct{} // there may be something to begin

	mu       sync.Mutex
	line     []*item                 // announced, not begun, in order
	items    map[digest.Digest]*item // in line, on their way, or waiting to be read
	begun    []*item                 // of items, those that left the line, oldest first
	held     int64                   // bytes of what is on its way, waits or is lent
	flying   int                     // requests
	requests int                     // that may be on their way
	reads    int                     // chunks that were asked for
	span     int64                   // bytes of a request, at most
	running  bool                    // the dispatcher
	over     bool
}

// item is a chunk that was announced, or is lent. raw and err are valid when done is closed;
// whoever takes it off the map owns it.
type item struct {
	name    digest.Digest
	at      pack.Location // when it has left the line
	placed  bool          // at is known
	urgent  bool          // somebody waits for it
	flight  *flight       // nil in the line
	expires int           // when so many chunks were asked for, it was a wrong guess
	held    int64
	left    bool // nobody wants it any more

	done chan struct{}
	buf  *pagebuf.Buffer
	raw  []byte // in buf
	err  error
}

func newAhead(p *Snapshot) *ahead {
	return &ahead{
		p: p, pool: pagebuf.NewPool(p.opt.Budget / 2), work: make(chan struct{}, 1),
		items: map[digest.Digest]*item{}, requests: firstRequests, span: maxSpan,
	}
}

// needMap begins to fetch the chunk map.
func (a *ahead) needMap() {
	a.start()
	a.poke()
}

// announce puts chunks into the line. When it is full, what has waited longest was a
// wrong guess.
func (a *ahead) announce(ds []digest.Digest) {
	a.mu.Lock()
	for _, d := range ds {
		if a.over || a.items[d] != nil {
			continue
		}
		it := &item{name: d, done: make(chan struct{}), expires: a.reads + patience*len(a.items) + lasts}
		a.items[d] = it
		a.line = append(a.line, it)
	}
	for len(a.line) > maxLine {
		delete(a.items, a.line[0].name)
		a.giveUp(a.line[0])
		a.line = a.line[1:]
	}
	a.mu.Unlock()
	a.start()
	a.poke()
}

// giveUp ends an item that is in the line and off the map: whoever waits for it asks
// for himself.
func (a *ahead) giveUp(it *item) {
	it.err = errClosed
	close(it.done)
}

// forget takes an item off the map, if it is the one there.
func (a *ahead) forget(it *item) {
	if a.items[it.name] == it {
		delete(a.items, it.name)
	}
}

// claim takes a chunk that was announced; nil when it was not, or could not be had:
// then it must be asked for. The caller drops it.
func (a *ahead) claim(ctx context.Context, d digest.Digest) (*item, error) {
	it := a.take(d)
	if it == nil {
		return nil, nil
	}
	select {
	case <-it.done:
	case <-ctx.Done():
		a.drop(it)
		return nil, context.Cause(ctx)
	case <-a.p.ctx.Done():
		a.drop(it)
		return nil, context.Cause(a.p.ctx)
	}
	if it.err != nil {
		a.drop(it)
		return nil, nil
	}
	return it, nil
}

// take takes an item off the map. One that is still in the line is begun now; more
// requests may be on their way from now on, if there were enough to do.
func (a *ahead) take(d digest.Digest) *item {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reads++
	if len(a.line) > 0 {
		a.poke()
	}
	it := a.items[d]
	if it == nil {
		return nil
	}
	delete(a.items, d)
	if it.flight == nil {
		it.urgent = true
	} else {
		a.begun = remove(a.begun, it)
	}
	select {
	case <-it.done:
		a.span = min(a.span+a.span/16, maxSpan)
	default: // smaller requests, and more of them
		a.span = max(a.span/2, minSpan)
		if len(a.line) > 0 && a.flying >= a.requests {
			a.requests = min(2*a.requests, mostRequests)
		}
	}
	return it
}

func remove(list []*item, it *item) []*item {
	if i := slices.Index(list, it); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// dropWrong gives up what was announced so long ago that nobody will ask for it. It
// is called under the lock.
func (a *ahead) dropWrong() {
	wrong := func(it *item) bool { return !it.urgent && it.expires <= a.reads }
	for _, it := range a.line {
		if wrong(it) {
			a.forget(it)
			a.giveUp(it)
		}
	}
	a.line = slices.DeleteFunc(a.line, wrong)
	for len(a.begun) > 0 && wrong(a.begun[0]) {
		it := a.begun[0]
		a.begun = a.begun[1:]
		a.forget(it)
		a.wg.Go(func() { a.drop(it) }) // without the lock
	}
}

// drop gives back an item that is off the map.
func (a *ahead) drop(it *item) {
	a.mu.Lock()
	a.line = remove(a.line, it) // then nobody begins it any more
	select {
	case <-it.done:
		a.mu.Unlock()
		a.free(it)
		return
	default:
	}
	it.left = true
	if it.flight != nil {
		it.flight.leave()
	}
	a.mu.Unlock()
}

// arrived ends the waiting for an item.
func (a *ahead) arrived(it *item, err error) {
	it.err = err
	a.mu.Lock()
	close(it.done)
	left := it.left
	a.mu.Unlock()
	if left {
		a.free(it)
	}
}

func (a *ahead) free(it *item) {
	a.pool.Put(it.buf)
	a.mu.Lock()
	a.held -= it.held
	it.held = 0
	a.mu.Unlock()
	a.poke()
}

// room gets a buffer for a chunk that was not announced.
func (a *ahead) room(it *item, size int) ([]byte, error) {
	a.pool.Put(it.buf) // of a first try
	var err error
	if it.buf, err = a.pool.Get(size); err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.held += int64(size) - it.held
	it.held = int64(size)
	a.mu.Unlock()
	return it.buf.Bytes()[:size], nil
}

// close waits for everything, after the snapshot's context has ended.
func (a *ahead) close() {
	a.mu.Lock()
	a.over = true
	rest := a.begun
	for _, it := range a.line {
		a.giveUp(it)
	}
	a.items, a.begun, a.line = map[digest.Digest]*item{}, nil, nil
	a.mu.Unlock()
	for _, it := range rest {
		a.drop(it)
	}
	a.wg.Wait()
	a.pool.Close()
}
