package archive

import (
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// readAhead fetches what will be read: what was announced, and what lies before
// the sequential readers.
type readAhead struct {
	budget int // slots, for all streams together
	work   chan struct{}

	mu      sync.Mutex
	streams streams
	asked   []int // slots that were announced, at most budget
	turn    int   // stream that comes first
	wasted  int64 // of the image, when the windows were narrowed last
	started bool
}

const (
	maxFollowed = 1 << 60 // bytes; an index may claim more, and sums would overflow

	maxAhead = 64 << 20 // bytes of chunks for all streams of an image together
	maxZeros = 64       // slots of zeros that are looked over
	lanes    = 2        // chunks that are hashed together
)

// aheadBudget is how many chunks an image may fetch ahead: half of the cache but
// for the one that a reader has just come to.
func aheadBudget(limit int64, chunk int) int {
	size := bufferSize(uint32(chunk))
	half := limit / 2 / size
	return int(min(half-min(1, half/2), max(maxAhead/size, 2*lanes), maxWindow))
}

// observe notes a read. In a hurry it leaves it out when another one is being
// noted; then the read counts as sequential, which has no consequences. wide
// says that the reader is faster than what is fetched for him.
func (i *Image) observe(off, n int64, hurry bool) (t *stream, sequential, wide bool) {
	f := &i.ahead
	if off+n > maxFollowed {
		return nil, false, false
	}
	if !hurry {
		f.mu.Lock()
	} else if !f.mu.TryLock() {
		return nil, true, false
	}
	t = f.streams.observe(off, n)
	more := t != nil && i.wants(t)
	wide = t != nil && i.window(t) >= lanes
	f.mu.Unlock()
	if more {
		i.poke()
	}
	return t, t != nil, wide
}

// late notes that a sequential reader had to wait.
func (i *Image) late(t *stream) {
	f := &i.ahead
	f.mu.Lock()
	t.late()
	more := i.wants(t)
	f.mu.Unlock()
	if more {
		i.poke()
	}
}

// window is how many slots may be fetched ahead for a stream: its share of the
// budget, and less if other streams still have more than theirs. It is called
// under the lock, as is wants.
func (i *Image) window(t *stream) int {
	f := &i.ahead
	active, others := 0, 0
	for k := range f.streams.list {
		if o := &f.streams.list[k]; f.streams.active(o) {
			active++
			if o != t {
				others += len(o.claimed)
			}
		}
	}
	return min(t.window, max(1, f.budget/max(active, 1)), f.budget-others)
}

// wants reports whether something is to be fetched for a stream. A wide window
// is filled by two, which are hashed together.
func (i *Image) wants(t *stream) bool {
	if !i.ahead.streams.active(t) || t.issued >= i.x.Count() {
		return false
	}
	w := i.window(t)
	room := w - len(t.claimed)
	if room <= 0 || w >= lanes && room < lanes {
		return false
	}
	at := int((t.next - 1) / i.ahead.streams.chunk)
	return t.issued-at <= w+maxZeros
}

// poke lets a worker look for something to do.
func (i *Image) poke() {
	f := &i.ahead
	select {
	case f.work <- struct{}{}:
	default:
	}
	f.mu.Lock()
	start := !f.started
	f.started = true
	f.mu.Unlock()
	if start && i.enter() {
		i.startWorkers()
		i.leave()
	}
}

func (i *Image) startWorkers() {
	c := i.cache
	c.mu.Lock()
	n := c.background()
	c.mu.Unlock()
	for range n {
		i.tasks.Go(i.workAhead)
	}
}

func (i *Image) workAhead() {
	for {
		j, ok := i.next()
		if !ok {
			select {
			case <-i.ahead.work:
				continue
			case <-i.ctx.Done():
				return
			}
		}
		i.poke() // there may be work for another
		i.hintSlots(j.hintFrom, j.hintTo)
		if i.ctx.Err() != nil {
			return
		}
		i.fetchAhead(j.slots)
	}
}

// job is what a worker does at a time.
type job struct {
	slots            []slotName
	hintFrom, hintTo int // slots that come after, for the snapshot to know
}

type slotName struct {
	slot int
	name name
}

// next finds something to do.
func (i *Image) next() (j job, ok bool) {
	for i.ctx.Err() == nil {
		missing := i.claim(&j)
		if missing < 0 {
			return j, len(j.slots) > 0
		}
		if _, err := i.table.at(missing); err != nil {
			i.giveUp(missing) // a read will say so
		}
	}
	return j, false
}

// claim takes what is next, at most two slots. If a digest has to be read from
// the index first, it returns the slot, else -1.
func (i *Image) claim(j *job) (missing int) {
	f := &i.ahead
	f.mu.Lock()
	defer f.mu.Unlock()
	if w := i.from.wasted.Load(); w != f.wasted {
		f.wasted = w
		f.streams.narrow()
	}
	for len(f.asked) > 0 && len(j.slots) < lanes {
		if missing := i.add(j, f.asked[0]); missing >= 0 {
			return missing
		}
		f.asked = slices.Delete(f.asked, 0, 1)
	}
	for k := 0; k < maxRuns && len(j.slots) == 0; k++ {
		t := &f.streams.list[(f.turn+k)%maxRuns]
		for len(j.slots) < lanes && (len(j.slots) > 0 || i.wants(t)) && t.issued < i.x.Count() && len(t.claimed) < i.window(t) {
			n := len(j.slots)
			if missing := i.add(j, t.issued); missing >= 0 {
				if n > 0 {
					break
				}
				return missing
			}
			if d, _ := i.table.peek(t.issued); !i.x.IsZero(t.issued, d) {
				t.claimed = append(t.claimed, t.issued)
			}
			t.issued++
		}
		if len(j.slots) > 0 {
			f.turn = (f.turn + k + 1) % maxRuns
			j.hintFrom, j.hintTo = i.after(t)
		}
	}
	return -1
}

// add puts a slot into a job, unless it is zero or there.
func (i *Image) add(j *job, slot int) (missing int) {
	d, ok := i.table.peek(slot)
	if !ok {
		return slot
	}
	n := i.name(slot, d)
	if i.x.IsZero(slot, d) || i.cache.has(&n) {
		return -1
	}
	j.slots = append(j.slots, slotName{slot, n})
	return -1
}

// leastHint is how many slots are told to a distant snapshot at a time.
const leastHint = 4

// after returns which of the next slots of a stream the snapshot is to hear of: for a
// disk the two that come next, if the reader is fast enough, for one that is distant
// as many as its distance asks for and the reader's speed justifies. It is called
// under the lock.
func (i *Image) after(t *stream) (from, to int) {
	switch {
	case i.distance > 0 && t.window >= lanes:
		from, to = max(t.told, t.issued), t.issued+min(hintWindows*t.window, i.distance)
		if to-from < leastHint {
			return 0, 0
		}
	case i.hints && t.window >= 2*lanes:
		from, to = t.issued, t.issued+lanes
	}
	t.told = max(t.told, to)
	return from, min(to, i.x.Count())
}

// hintWindows is how many times as far as it is fetched ahead a stream is announced.
const hintWindows = 4

// hintSlots tells the snapshot of slots, as far as their names can be had.
func (i *Image) hintSlots(from, to int) {
	var ds []digest.Digest
	for s := from; s < to; s++ {
		d, ok := i.table.peek(s)
		if !ok && i.distance > 0 {
			var err error
			d, err = i.table.at(s)
			ok = err == nil // else a read will say so
		}
		if ok && !i.x.IsZero(s, d) {
			ds = append(ds, d)
		}
	}
	if len(ds) > 0 {
		i.hint(ds)
	}
}

// giveUp ends what would need a slot whose digest cannot be read.
func (i *Image) giveUp(slot int) {
	f := &i.ahead
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = f.asked[:0]
	for k := range f.streams.list {
		if t := &f.streams.list[k]; t.live && t.issued == slot {
			t.issued = i.x.Count()
		}
	}
}

// ask announces slots. What finds no place is left to the reads.
func (i *Image) ask(first, last int) {
	f := &i.ahead
	f.mu.Lock()
	for s := first; s <= last && len(f.asked) < max(1, f.budget/2) && f.budget > 0; s++ {
		if !slices.Contains(f.asked, s) {
			f.asked = append(f.asked, s)
		}
	}
	f.mu.Unlock()
	i.poke()
}

// beside begins the chunk behind one that a reader waits for, to be hashed
// together with it: a reader who is faster than the workers needs it next.
func (i *Image) beside(slot int) (b batch) {
	if slot++; slot >= i.x.Count() {
		return b
	}
	d, ok := i.table.peek(slot)
	if !ok || i.x.IsZero(slot, d) {
		return b
	}
	n := i.name(slot, d)
	if i.cache.has(&n) {
		return b
	}
	return i.begin([]slotName{{slot, n}}, forward)
}
