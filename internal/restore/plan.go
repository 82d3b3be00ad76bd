package restore

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// what is to be done about slots.
type what uint8

const (
	chunkRun what = iota // slots to fetch and write, at most lanes
	zeroRun              // slots that are all zero
	sameRun              // slots that the base has too
)

// lanes is how many chunks a worker takes at a time, to hash them together.
const lanes = 2

// step is a piece of work. In order, it waits for turn and then closes done.
type step struct {
	what     what
	first, n int
	digests  [lanes]digest.Digest // of a chunkRun
	turn     <-chan struct{}
	done     chan struct{}
}

// zerosRead is how many slots of zeros are a step when the target is read to find
// out whether it has them: so few that the workers share what a device without holes
// costs, where one of them would have all of it.
const zerosRead = 4

// batch is how many digests are read from an index at once.
const batch = 1024

// plan hands out the slots of an index in order, to any number of takers.
type plan struct {
	src, base *fetch.Image // base may be nil
	order     bool
	zeros     int // slots of a zeroRun at most

	mu    sync.Mutex
	next  int             // slot
	start int             // of the batch
	want  []digest.Digest // the batch
	have  []digest.Digest // the base's digests of the same slots
	told  int             // slots before it were handed to the prefetcher
	last  chan struct{}   // done of the step before, in order
}

func newPlan(src, base *fetch.Image, order bool) *plan {
	return &plan{src: src, base: base, order: order, zeros: batch}
}

// take returns the next step, and up to ahead digests of chunks that will be
// needed soon and were not told before; ok is false at the end.
func (p *plan) take(ahead int) (s step, soon []digest.Digest, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.src.Count() {
		return step{}, nil, false, nil
	}
	if p.next == p.start+len(p.want) {
		if err := p.load(); err != nil {
			return step{}, nil, false, err
		}
	}
	end := p.start + len(p.want)
	s = step{what: p.kind(p.next), first: p.next}
	for {
		p.next++
		s.n++
		if p.next == end || s.what == chunkRun && s.n == lanes || s.what == zeroRun && s.n == p.zeros || p.kind(p.next) != s.what {
			break
		}
	}
	copy(s.digests[:], p.want[s.first-p.start:p.next-p.start])
	p.told = max(p.told, p.next)
	for ; p.told < end && p.told < p.next+ahead; p.told++ {
		if p.kind(p.told) == chunkRun {
			soon = append(soon, p.want[p.told-p.start])
		}
	}
	if p.order {
		s.turn, s.done = p.last, make(chan struct{})
		p.last = s.done
	}
	return s, soon, true, nil
}

// load reads the next batch.
func (p *plan) load() error {
	p.start = p.next
	n := min(batch, p.src.Count()-p.start)
	if p.want == nil {
		p.want = make([]digest.Digest, n)
	}
	p.want = p.want[:n]
	if err := p.src.Digests(p.start, p.want); err != nil {
		return fmt.Errorf("archive %s: %w", p.src.Name, err)
	}
	p.have = p.have[:0]
	if p.base == nil || p.start >= p.base.Count() {
		return nil
	}
	if p.have == nil {
		p.have = make([]digest.Digest, batch)
	}
	p.have = p.have[:min(n, p.base.Count()-p.start)]
	if err := p.base.Digests(p.start, p.have); err != nil {
		return fmt.Errorf("base: archive %s: %w", p.src.Name, err)
	}
	return nil
}

// kind decides a slot of the batch.
func (p *plan) kind(slot int) what {
	i := slot - p.start
	switch d := p.want[i]; {
	case i < len(p.have) && p.have[i] == d && p.base.Length(slot) == p.src.Length(slot):
		return sameRun
	case p.src.IsZero(slot, d):
		return zeroRun
	}
	return chunkRun
}
