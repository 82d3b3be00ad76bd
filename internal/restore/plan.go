package restore

import (
	"fmt"
	"slices"
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

// batch is how many digests are read from an index at once. There are at least
// as many before the next step as are told ahead.
const batch = 1024

// plan hands out the slots of an index in order, to any number of takers.
type plan struct {
	src, base *fetch.Image // base may be nil
	order     bool
	zeros     int // slots of a zeroRun at most

	mu    sync.Mutex
	next  int             // slot
	start int             // of what was read of the index
	want  []digest.Digest // that
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
	if end := p.start + len(p.want); end < p.src.Count() && end-p.next < batch {
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

// load reads the next batch, behind what is left of the one before.
func (p *plan) load() error {
	past := p.next - p.start
	p.want = append(p.want[:0], p.want[past:]...)
	p.have = append(p.have[:0], p.have[min(past, len(p.have)):]...)
	p.start = p.next
	var err error
	if p.want, err = extend(p.want, p.src, p.start); err != nil {
		return fmt.Errorf("archive %s: %w", p.src.Name, err)
	}
	if p.base != nil {
		if p.have, err = extend(p.have, p.base, p.start); err != nil {
			return fmt.Errorf("base: archive %s: %w", p.src.Name, err)
		}
	}
	return nil
}

// extend appends the digests of a batch of slots to those that begin at start.
func extend(to []digest.Digest, x *fetch.Image, start int) ([]digest.Digest, error) {
	n := len(to)
	more := min(batch, x.Count()-start-n)
	if more <= 0 {
		return to, nil
	}
	to = slices.Grow(to, batch)[:n+more]
	return to, x.Digests(start+n, to[n:])
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
