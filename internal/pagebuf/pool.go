package pagebuf

import (
	"slices"
	"sync"
)

// Pool keeps freed buffers for the next one who needs one of about that size. It
// is safe for concurrent use.
type Pool struct {
	limit int64

	mu    sync.Mutex
	spare []*Buffer
	kept  int64 // bytes of spare
	over  bool
}

// NewPool returns a pool that keeps at most limit bytes that nobody uses.
func NewPool(limit int64) *Pool { return &Pool{limit: limit} }

const (
	poolStep = 1 << 20 // sizes are multiples of it
	poolFit  = 4 << 20 // a buffer of up to so many bytes is not too large for anything
)

// Get returns a buffer of at least n bytes. It holds what it held before. The one
// that was used last comes first: the processor's caches may still have it.
func (p *Pool) Get(n int) (*Buffer, error) {
	p.mu.Lock()
	for i, b := range slices.Backward(p.spare) {
		if have := len(b.Bytes()); have >= n && have <= max(4*n, poolFit) {
			p.spare = slices.Delete(p.spare, i, i+1)
			p.kept -= int64(have)
			p.mu.Unlock()
			return b, nil
		}
	}
	p.mu.Unlock()
	return New((n + poolStep - 1) / poolStep * poolStep)
}

// Put gives a buffer back, which its owner must not touch any more. nil is
// allowed.
func (p *Pool) Put(b *Buffer) {
	if b == nil {
		return
	}
	n := int64(len(b.Bytes()))
	p.mu.Lock()
	keep := !p.over && p.kept+n <= p.limit
	if keep {
		p.spare, p.kept = append(p.spare, b), p.kept+n
	}
	p.mu.Unlock()
	if !keep {
		b.Free()
	}
}

// Trim frees what nobody uses.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	FreeAll(p.spare)
	p.spare, p.kept = nil, 0
}

// Close frees what nobody uses, and from now on whatever is given back.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	FreeAll(p.spare)
	p.spare, p.kept, p.over = nil, 0, true
}
