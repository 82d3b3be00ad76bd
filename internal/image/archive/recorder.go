package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Recorder notes in which order the chunks of one image are first read; what is
// fetched ahead does not count. The zero value is ready for [Options.Trace].
// Memory: one bit for each slot, and [MaxTrace] slots.
type Recorder struct {
	seen []atomic.Uint64 // a bit for each slot

	mu    sync.Mutex
	trace Trace
}

// maxSeen bounds the bits, 32 MiB: slots behind it are not noted.
const maxSeen = 1 << 28

// start begins a trace of an image.
func (r *Recorder) start(x *fetch.Image) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen != nil {
		return errors.New("archive: a recorder is for one image")
	}
	r.trace = Trace{Archive: x.Name, Size: int64(x.Size), ChunkSize: int64(x.ChunkSize)}
	r.seen = make([]atomic.Uint64, (min(x.Count(), maxSeen)+63)/64)
	return nil
}

// note notes a read of a slot.
func (r *Recorder) note(slot int) {
	if r == nil || slot/64 >= len(r.seen) {
		return
	}
	bit := uint64(1) << (slot % 64)
	if r.seen[slot/64].Load()&bit != 0 || r.seen[slot/64].Or(bit)&bit != 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.trace.Slots) < MaxTrace {
		r.trace.Slots = append(r.trace.Slots, slot)
	}
}

// Trace returns what was noted so far.
func (r *Recorder) Trace() *Trace {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.trace
	t.Slots = slices.Clone(t.Slots)
	return &t
}

// Prefetch begins to fetch what a trace names, in its order, in the background,
// until ctx ends or the image is closed. Reads go first, and only free room in
// the cache is used: it ends when the cache is full. A trace of an image of
// another name, size or chunk size is refused with [ErrTrace].
func (i *Image) Prefetch(ctx context.Context, t *Trace) error {
	if t.Archive != i.x.Name || t.Size != i.Size() || t.ChunkSize != int64(i.x.ChunkSize) {
		return fmt.Errorf("%w for archive %s: it is of %s, %d bytes in chunks of %d, not of %d in chunks of %d",
			ErrTrace, i.x.Name, t.Archive, t.Size, t.ChunkSize, i.x.Size, i.x.ChunkSize)
	}
	if !i.enter() {
		return fmt.Errorf("archive %s: %w", i.x.Name, context.Cause(i.ctx))
	}
	defer i.leave()
	f := &prefetch{img: i, slots: t.Slots}
	i.cache.mu.Lock()
	n := i.cache.background()
	i.cache.mu.Unlock()
	for range n {
		i.tasks.Go(func() { f.run(ctx) })
	}
	return nil
}

// prefetch walks over the slots of a trace.
type prefetch struct {
	img   *Image
	mu    sync.Mutex
	slots []int // that are left
}

func (f *prefetch) run(ctx context.Context) {
	c := f.img.cache
	for more := true; more; {
		l, err := c.loader(f.img.ctx, &f.img.user, spare)
		if err != nil {
			return
		}
		var b batch
		b, more = f.next(ctx)
		f.img.fill(l, &b)
		c.putLoader(l)
	}
}

// next begins with the next slot that is worth it, so that room is given in
// order.
func (f *prefetch) next(ctx context.Context) (b batch, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.img
	for len(f.slots) > 0 && ctx.Err() == nil && i.ctx.Err() == nil {
		slot := f.slots[0]
		f.slots = f.slots[1:]
		if slot < 0 || slot >= i.x.Count() {
			continue
		}
		d, err := i.table.at(slot)
		if err != nil {
			break
		}
		id := i.name(slot, d)
		if i.x.IsZero(slot, d) || i.cache.has(&id) {
			continue
		}
		if b = i.begin([]slotName{{slot, id}}, spare); b.left {
			break
		}
		return b, true
	}
	f.slots = nil
	return b, false
}
