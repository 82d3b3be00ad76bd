package restore

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// Count is a number of slots and the bytes in them.
type Count struct {
	Chunks, Bytes int64
}

// Stats counts what happened to slots. Each slot is in exactly one of the four
// counts, so their sum is what is done.
type Stats struct {
	Zero    Count // zero by digest
	Same    Count // was there already
	Fetched Count // fetched, checked, and written as far as it differed
	Holes   Count // could not be had; reads as zeros

	Encoded int64 // bytes fetched
	Written int64 // bytes of data written; zeros are not data
}

// Done is the bytes of all slots that are dealt with.
func (s Stats) Done() int64 {
	return s.Zero.Bytes + s.Same.Bytes + s.Fetched.Bytes + s.Holes.Bytes
}

// Counters is a Stats that is being counted. Load may be called at any time,
// for progress; the zero value is ready.
type Counters struct {
	zero, same, fetched, holes counter
	encoded, written           atomic.Int64
}

type counter struct{ chunks, bytes atomic.Int64 }

func (c *counter) add(chunks, bytes int64) {
	c.chunks.Add(chunks)
	c.bytes.Add(bytes)
}

func (c *counter) load() Count { return Count{c.chunks.Load(), c.bytes.Load()} }

// Load returns the counts so far.
func (c *Counters) Load() Stats {
	return Stats{
		Zero:    c.zero.load(),
		Same:    c.same.load(),
		Fetched: c.fetched.load(),
		Holes:   c.holes.load(),
		Encoded: c.encoded.Load(),
		Written: c.written.Load(),
	}
}

// each calls f for the counters of this restore and those of the caller.
func (j *restoring) each(f func(c *Counters)) {
	f(j.count)
	f(j.opts.Counters)
}

// Holes lists ranges that could not be restored.
type Holes struct {
	Ranges []image.Range // sorted, disjoint
	More   bool          // there were more than the list holds
	First  error         // a reason, the first that came up; a *ChunkError
}

// maxHoles bounds the list: what is longer nobody reads.
const maxHoles = 1000

type holes struct {
	mu    sync.Mutex
	all   []image.Range
	more  bool
	first error
}

func (h *holes) add(r image.Range, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.first == nil {
		h.first = err
	}
	i, _ := slices.BinarySearchFunc(h.all, r.Offset, func(x image.Range, off int64) int {
		if x.Offset < off {
			return -1
		}
		return 1
	})
	// Slots do not overlap, but they may touch on both sides.
	if i < len(h.all) && h.all[i].Offset == r.End() {
		r.Length += h.all[i].Length
		h.all = slices.Delete(h.all, i, i+1)
	}
	switch {
	case i > 0 && h.all[i-1].End() == r.Offset:
		h.all[i-1].Length += r.Length
	case len(h.all) < maxHoles:
		h.all = slices.Insert(h.all, i, r)
	default:
		h.more = true
	}
}

func (h *holes) list() Holes { return Holes{Ranges: h.all, More: h.more, First: h.first} }
