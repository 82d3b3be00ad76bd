package nbdserver

import (
	"math/bits"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Buffers have sizes of powers of two.
const (
	minClass = 14 // 16 KiB
	maxClass = 25 // 32 MiB: nbd.MaxPayload
)

// pool is the memory for payloads of all connections.
//
// What is used and what is kept for later is together at most limit. Who finds
// not enough waits in a queue; one that only waits for itself (because one
// connection may use half of it all) does not stop those behind it.
type pool struct {
	limit int64

	mu    sync.Mutex
	used  int64
	idle  int64
	free  [maxClass + 1][]*pagebuf.Buffer
	queue []*account
}

// account is a connection's share. Only the connection's reader takes.
type account struct {
	used int64         // guarded by pool.mu
	want int64         // while in the queue
	wake chan struct{} // holds one
}

func newPool(limit int64) *pool { return &pool{limit: limit} }

func newAccount() account { return account{wake: make(chan struct{}, 1)} }

// class is the smallest power of two that holds n bytes.
func class(n int) int { return max(bits.Len(uint(n-1)), minClass) }

// get returns a buffer of at least n bytes (0 < n <= nbd.MaxPayload), or
// ESHUTDOWN when done ends first.
func (p *pool) get(a *account, n int, done <-chan struct{}) (*pagebuf.Buffer, error) {
	c := class(n)
	a.want = 1 << c
	p.mu.Lock()
	p.queue = append(p.queue, a)
	p.serve()
	p.mu.Unlock()
	select {
	case <-a.wake:
	default:
		select {
		case <-a.wake:
		case <-done:
			p.quit(a, c)
			return nil, &nbd.Error{Errno: nbd.ESHUTDOWN, Text: "the connection ends"}
		}
	}
	p.mu.Lock()
	if k := len(p.free[c]); k > 0 {
		b := p.free[c][k-1]
		p.free[c] = p.free[c][:k-1]
		p.idle -= 1 << c
		p.mu.Unlock()
		return b, nil
	}
	p.evict()
	p.mu.Unlock()
	b, err := pagebuf.New(1 << c)
	if err != nil {
		p.giveBack(a, c, nil)
		return nil, &nbd.Error{Errno: nbd.ENOMEM, Text: err.Error()}
	}
	return b, nil
}

// serve grants what can be granted. The caller holds mu.
func (p *pool) serve() {
	for i := 0; i < len(p.queue); {
		a := p.queue[i]
		switch {
		case a.used > 0 && a.used+a.want > p.limit/2:
			i++ // waits for its own
			continue
		case p.used > 0 && p.used+a.want > p.limit:
			return
		}
		a.used += a.want
		p.used += a.want
		p.queue = slices.Delete(p.queue, i, i+1)
		a.wake <- struct{}{}
	}
}

// quit leaves the queue, or gives back what was granted at the last moment.
func (p *pool) quit(a *account, c int) {
	p.mu.Lock()
	if i := slices.Index(p.queue, a); i >= 0 {
		p.queue = slices.Delete(p.queue, i, i+1)
		p.serve() // it may have stood in the way
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	<-a.wake
	p.giveBack(a, c, nil)
}

// put takes a buffer back.
func (p *pool) put(a *account, b *pagebuf.Buffer) { p.giveBack(a, class(len(b.Bytes())), b) }

func (p *pool) giveBack(a *account, c int, b *pagebuf.Buffer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.used -= 1 << c
	p.used -= 1 << c
	if b != nil {
		p.free[c] = append(p.free[c], b)
		p.idle += 1 << c
	}
	p.serve()
}

// evict frees idle buffers until used and idle ones fit. The caller holds mu.
func (p *pool) evict() {
	for c := maxClass; c >= minClass && p.used+p.idle > p.limit; c-- {
		for k := len(p.free[c]); k > 0 && p.used+p.idle > p.limit; k-- {
			p.free[c][k-1].Free()
			p.free[c] = p.free[c][:k-1]
			p.idle -= 1 << c
		}
	}
}

// trim frees what nobody uses.
func (p *pool) trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.free {
		pagebuf.FreeAll(p.free[c])
		p.free[c] = nil
	}
	p.idle = 0
}
