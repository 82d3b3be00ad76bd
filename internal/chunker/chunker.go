// Package chunker finds where a stream is cut into chunks whose boundaries
// depend on the content, so that the same data yields the same chunks wherever
// it stands. All clients of a store must cut alike, or nothing deduplicates
// between them.
//
// # Rule
//
// A buzhash h of 32 bits runs over the last 64 bytes of the current chunk, with
// a table T of 256 random numbers. With the average size A, a power of two:
//
//	bytes 1 to 64 of a chunk   h = rotl(h, 1) ^ T[in]
//	every byte after that      h = rotl(h, 1) ^ T[in] ^ T[out]   (out: 64 bytes before)
//
// (The byte that leaves needs no rotation, 64 being a multiple of 32.) The
// chunk ends with this byte if its length is 4A, or if it is at least A/4 and
//
//	h & (2A-1) >= 2A-3
//
// The next chunk starts with h = 0 and an empty window. The last chunk of a
// stream is whatever is left. Constant data has h = 0 and is cut every 4A
// bytes.
//
// Since h depends on nothing but the last 64 bytes, the first A/4-64 bytes of
// each chunk are skipped without a look, and the rest is hashed at four places
// at once.
//
// # Payload streams
//
// The payload of a split archive (".ppxar") is cut by [Payload], the same rule
// with two additions: chunks prefer to end where a file begins, so that files
// which come back in another order are found again, and runs of chunks that are
// known already stand in the middle of the stream. [Pieces] joins the writes of
// an encoder to the pieces that such a stream is cut in.
//
// # What is deterministic
//
// [Chunker]: the boundaries are a function of the bytes and the average. The
// pieces that a stream arrives in do not matter.
//
// [Payload]: the boundaries are a function of the bytes, the average, the hints,
// the injections and the pieces, as a hint counts only if it lies in the bytes
// that have arrived and have not been scanned. With every hint and injection
// announced before the byte behind it is scanned, and the pieces of [Pieces],
// all of this follows from the calls of the encoder, so the same tree is cut
// alike each time. The reference client announces hints from another thread: when
// its consumer waits for data, a hint may come after the piece that ends at it,
// and is lost. Its boundaries are those of this package whenever none is lost;
// otherwise both meet again at the next common one.
//
// # Memory
//
// None but the state: 100 bytes, hints and injections until they are passed, and
// the 256 KiB of Pieces.
//
// # Source
//
// proxmox-backup: pbs-datastore/src/chunker.rs, pbs-client/src/chunk_stream.rs,
// pbs-client/src/inject_reused_chunks.rs; systemd/casync: src/cachunker.c.
package chunker

import (
	"fmt"
	"math/bits"
)

// DefaultAverage is the usual average size of chunks in bytes, that of
// archives. The catalog uses CatalogAverage.
const (
	DefaultAverage = 4 << 20
	CatalogAverage = 512 << 10
)

// Bounds of the average, in bytes.
const (
	MinAverage = 64 << 10
	MaxAverage = 4 << 20
)

const window = 64

// Chunker holds the state within one stream. It is not safe for concurrent
// use.
type Chunker struct {
	min, max   int // of a chunk, bytes
	mask, edge uint32

	size int          // bytes of the current chunk so far
	h    uint32       // valid once the window has been filled
	last [window]byte // ring of the last bytes, by their position in the chunk
}

// New returns a chunker for the start of a stream. avg is the average size in
// bytes, a power of two from MinAverage to MaxAverage.
func New(avg int) (*Chunker, error) {
	if avg < MinAverage || avg > MaxAverage || avg&(avg-1) != 0 {
		return nil, fmt.Errorf("chunker: average size %d: want a power of two from %d to %d", avg, MinAverage, MaxAverage)
	}
	return &Chunker{min: avg / 4, max: avg * 4, mask: uint32(2*avg - 1), edge: uint32(2*avg - 3)}, nil
}

// Max returns the size of the largest chunk in bytes: a buffer of this size is
// always enough.
func (c *Chunker) Max() int { return c.max }

// Reset forgets the current chunk, as if the stream had been cut here.
func (c *Chunker) Reset() { c.size, c.h = 0, 0 }

// Scan looks for the end of the current chunk in the next bytes of the stream.
// It returns how many of them belong to the chunk, up to and including the
// last, and is then ready for the byte behind; or 0 when all of p belongs to the
// chunk and it goes on. The pieces that a stream is fed in do not matter.
func (c *Chunker) Scan(p []byte) int {
	n := 0
	if skip := c.min - window - c.size; skip > 0 {
		n = min(skip, len(p))
		c.size += n
	}
	for c.size < c.min && n < len(p) {
		c.h = bits.RotateLeft32(c.h, 1) ^ table[p[n]]
		c.last[c.size%window] = p[n]
		n++
		c.size++
		if c.size == c.min && c.h&c.mask >= c.edge {
			c.Reset()
			return n
		}
	}
	end := n + min(len(p)-n, c.max-c.size) // neither beyond p nor beyond max
	ringEnd := min(end, n+window)
	for ; n < ringEnd; n++ { // the byte that leaves came with an earlier call
		k := c.size % window
		c.h = bits.RotateLeft32(c.h, 1) ^ table[c.last[k]] ^ table[p[n]]
		c.last[k] = p[n]
		c.size++
		if c.h&c.mask >= c.edge {
			c.Reset()
			return n + 1
		}
	}
	if n < end {
		cut, h := c.roll(p[n-window:end], c.h)
		if cut > 0 {
			c.Reset()
			return n + cut
		}
		c.h = h
		c.size += end - n
		c.remember(p[end-window : end])
		n = end
	}
	if c.size == c.max {
		c.Reset()
		return n
	}
	return 0
}

// roll takes a window and the bytes behind it. It returns how many of those
// belong to the chunk when it ends in them, and otherwise 0 and the hash.
func (c *Chunker) roll(b []byte, h uint32) (int, uint32) {
	ends := c.mask &^ 3 // these bits are set wherever a chunk ends
	at := 0
	for ; len(b)-at >= window+block; at += block {
		next, ok := quiet((*[window + block]byte)(b[at:]), h, ends)
		if !ok {
			var cut int
			if cut, next = c.step(b[at:at+window+block], h); cut > 0 {
				return at + cut, 0
			}
		}
		h = next
	}
	cut, h := c.step(b[at:], h)
	if cut > 0 {
		cut += at
	}
	return cut, h
}

// step is roll byte by byte.
func (c *Chunker) step(b []byte, h uint32) (int, uint32) {
	mask, edge := c.mask, c.edge
	in := b[window:]
	out := b[:len(in)]
	for i, x := range in {
		h = bits.RotateLeft32(h, 1) ^ table[out[i]] ^ table[x]
		if h&mask >= edge {
			return i + 1, 0
		}
	}
	return 0, h
}

// remember puts the last bytes of the chunk where their positions want them.
func (c *Chunker) remember(tail []byte) {
	k := c.size % window // where the oldest of them is
	copy(c.last[k:], tail)
	copy(c.last[:k], tail[window-k:])
}
