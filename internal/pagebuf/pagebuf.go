// Package pagebuf hands out large byte buffers that live outside the Go heap.
//
// A pipeline works on a handful of buffers of several MiB each. On the heap
// they would double with the garbage collector's headroom and return to the
// system late; here each is an anonymous mapping, aligned to pages (to 2 MiB
// when it is that large, with advice to use huge pages), zero at the start and
// gone when freed. A buffer that is only read takes no memory. Where there are
// no anonymous mappings the buffer is an ordinary slice.
//
// # Ownership
//
// A [Buffer] has one owner. After Free nobody may touch its bytes: on most
// systems that is a fault, not a stale read. [Outstanding] counts what has not
// been freed, so that a test can demand zero at the end.
package pagebuf

import (
	"fmt"
	"os"
	"sync/atomic"
)

// outstanding is a property of the process, as its address space is.
var outstanding atomic.Int64

// Outstanding returns the number of buffers that have not been freed.
func Outstanding() int { return int(outstanding.Load()) }

// Buffer is a page-aligned piece of memory.
type Buffer struct {
	b      []byte
	mapped []byte // what to give back; nil for an ordinary slice
}

// maxSize is far above the largest chunk; what asks for more is a bug or
// hostile.
const maxSize = 1 << 30

// New returns a buffer of n > 0 bytes, all zero.
func New(n int) (*Buffer, error) {
	if n <= 0 || n > maxSize {
		return nil, fmt.Errorf("pagebuf: buffer of %d bytes", n)
	}
	page := os.Getpagesize()
	whole := (n + page - 1) &^ (page - 1)
	b, mapped, err := allocate(whole)
	if err != nil {
		return nil, fmt.Errorf("allocate a buffer of %d bytes: %w", n, err)
	}
	outstanding.Add(1)
	return &Buffer{b: b[:n:n], mapped: mapped}, nil
}

// Bytes returns the n bytes of the buffer, with no capacity behind them.
func (b *Buffer) Bytes() []byte { return b.b }

// Free gives the memory back. Freeing nil, or twice, does nothing.
func (b *Buffer) Free() {
	if b == nil || b.b == nil {
		return
	}
	m := b.mapped
	b.b, b.mapped = nil, nil
	release(m)
	outstanding.Add(-1)
}

// FreeAll frees every buffer of a list.
func FreeAll(bufs []*Buffer) {
	for _, b := range bufs {
		b.Free()
	}
}
