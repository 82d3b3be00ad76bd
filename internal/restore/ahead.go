package restore

import (
	"sync"
	"time"
)

// The depth of the read-ahead, in chunks.
const (
	startAhead = 8
	maxAhead   = 64
)

// ahead adapts how many chunks the prefetcher is told ahead to how long the
// workers wait for chunks: a store on flash or in the page cache needs no
// hints, a disk or a network many.
type ahead struct {
	mu         sync.Mutex
	steps      int
	wait, busy time.Duration
	current    int // plus 1; 0 at the start
	wanted     int // of the last chunks that were compared, more were wanted than not
}

func (a *ahead) depth() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == 0 {
		return startAhead
	}
	return a.current - 1
}

// note records one chunk: how long it took to fetch, of how long in all.
func (a *ahead) note(wait, whole time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current == 0 {
		a.current = startAhead + 1
	}
	a.wait, a.busy, a.steps = a.wait+wait, a.busy+whole, a.steps+1
	if a.steps < 16 {
		return
	}
	a.current = adapt(a.current-1, a.wait, a.busy) + 1
	a.wait, a.busy, a.steps = 0, 0, 0
}

// adapt decides the next depth from the last one and what it led to.
func adapt(depth int, wait, busy time.Duration) int {
	switch {
	case wait > busy/3:
		return min(max(2*depth, 2), maxAhead)
	case wait < busy/20:
		return depth / 2
	}
	return depth
}

// mostWanted bounds how long what was found is remembered.
const mostWanted = 16

// compared records whether the target lacked a chunk that it might have had.
func (a *ahead) compared(lacks bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if lacks {
		a.wanted = min(a.wanted+1, mostWanted)
	} else {
		a.wanted = max(a.wanted-1, 0)
	}
}

// likely reports whether a target that may have chunks lacks most of them.
func (a *ahead) likely() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wanted >= mostWanted/2
}
