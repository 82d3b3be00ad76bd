package provider

import "sync"

// granule is the unit in which the platform's machines forget what was stored, in
// bytes. Versions of QEMU end with a failed assertion when they are told to discard
// what is not whole units, so nothing else is ever told to them.
const granule = 4 << 20

// maxPartial is how many granules may be consumed in part at a time, 2 MiB of
// memory. More of them is a reader that leaves holes; then some are not given up.
const maxPartial = 1 << 16

// granules turns what was consumed into whole granules. Nothing is consumed twice.
type granules struct {
	size int64 // of the disk, in bytes
	// give gives up [off, off+n), which begins with a granule and ends with one or
	// with the disk.
	give func(off, n int64)

	mu      sync.Mutex
	partial map[int64]int64 // bytes of a granule that were consumed, by its number
}

func newGranules(size int64, give func(off, n int64)) *granules {
	return &granules{size: size, give: give, partial: map[int64]int64{}}
}

// consumed notes a range, and gives up the granules that it completes.
func (g *granules) consumed(off, n int64) {
	end := min(off+n, g.size)
	from, to := int64(-1), int64(-1) // a run of complete granules, by number
	for i := off / granule; i*granule < end; i++ {
		part := min(end, (i+1)*granule) - max(off, i*granule)
		if !g.complete(i, part) {
			continue
		}
		if to != i {
			g.run(from, to)
			from = i
		}
		to = i + 1
	}
	g.run(from, to)
}

// run gives up the granules from on up to to.
func (g *granules) run(from, to int64) {
	if from < to {
		g.give(from*granule, min(to*granule, g.size)-from*granule)
	}
}

// complete adds n bytes to granule i.
func (g *granules) complete(i, n int64) bool {
	whole := min(granule, g.size-i*granule)
	if n == whole {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n += g.partial[i]
	if n >= whole {
		delete(g.partial, i)
		return true
	}
	if len(g.partial) >= maxPartial {
		clear(g.partial)
	}
	g.partial[i] = n
	return false
}
