package nbdclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// How much of a disk one BLOCK_STATUS asks about. It becomes less where there
// are more extents than are kept of a reply, and more where there are few.
const (
	firstAsk = 1 << 30
	leastAsk = 1 << 20
	mostAsk  = 1 << 38 // with extended headers
	most32   = 1<<32 - 64<<10
)

// windows is how many replies are kept.
const windows = 4

// known are the extents that were asked for last.
type known struct {
	asking chan struct{} // held while a reply is waited for

	mu     sync.Mutex
	ask    int64
	age    int // of the data: counts what changed the disk
	recent [][windows]*runs
	next   int
	none   bool // the server cannot say what is allocated
}

func newKnown(contexts int) *known {
	return &known{asking: make(chan struct{}, 1), ask: firstAsk, recent: make([][windows]*runs, contexts)}
}

// look finds what is known of a context at off.
func (n *known) look(context int, off int64) (end int64, flags uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range n.recent[context] {
		if r != nil {
			if end, flags, ok = r.at(off); ok {
				return end, flags, ok
			}
		}
	}
	return 0, 0, false
}

// keep notes a reply in place of the oldest, unless the disk was changed since
// it was asked for.
func (n *known) keep(status []*runs, age int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if age != n.age {
		return
	}
	for i, r := range status {
		n.recent[i][n.next] = r
	}
	n.next = (n.next + 1) % windows
}

// forget drops what does not hold any more when [from, to) is written.
func (n *known) forget(from, to int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.age++
	for i := range n.recent {
		for j, r := range n.recent[i] {
			if r != nil && r.start < to && from < r.end() {
				n.recent[i][j] = nil
			}
		}
	}
}

// adapt finds the length of the next question from the last reply.
func (n *known) adapt(extended bool, status []*runs) {
	longest, cut := 0, false
	for _, r := range status {
		longest = max(longest, len(r.list))
		cut = cut || r.cut
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case cut:
		n.ask = max(n.ask/2, leastAsk)
	case longest < maxRuns/8:
		n.ask = min(2*n.ask, mostAsk)
		if !extended {
			n.ask = min(n.ask, most32)
		}
	}
}

// fetch asks for the status of all contexts from off, a multiple of the block
// size, up to end or before.
func (im *Image) fetch(ctx context.Context, off, end int64) ([]*runs, error) {
	im.known.mu.Lock()
	ask, age := im.known.ask, im.known.age
	im.known.mu.Unlock()
	_, to := im.around(off, min(end, off+ask))
	k := &call{cmd: nbd.CmdBlockStatus, off: off, length: to - off}
	err := im.c.run(ctx, []*call{k}, true)
	if err == nil {
		err = k.err
	}
	if err != nil {
		return nil, fmt.Errorf("%s: status of %d bytes at offset %d: %w", im.c.name, k.length, off, err)
	}
	im.known.adapt(im.c.base.mode == nbd.Extended, k.status)
	im.known.keep(k.status, age)
	return k.status, nil
}

// Status calls fn for the extents of a metadata context in [off, off+n), in
// order and without gaps. Neighbours have different flags. An error of fn ends
// it.
func (im *Image) Status(ctx context.Context, name string, off, n int64, fn func(off, length int64, flags uint64) error) error {
	i := slices.Index(im.c.base.contexts, name)
	if i < 0 {
		return fmt.Errorf("%s: metadata context %q was not selected", im.c.name, name)
	}
	if off < 0 || n < 0 || off > im.Size()-n {
		return fmt.Errorf("%s: status of %d bytes at offset %d of %d", im.c.name, n, off, im.Size())
	}
	end := off + n
	start, flags := off, uint64(0) // the run that is not told yet
	for at := off; at < end; {
		from, _ := im.around(at, at)
		status, err := im.fetch(ctx, from, end)
		if err != nil {
			return err
		}
		r := status[i]
		if r.end() <= at { // only a server that ignores its own block size
			return fmt.Errorf("%s: %w: the status at offset %d ends at %d", im.c.name, ErrProtocol, from, r.end())
		}
		for at < min(r.end(), end) {
			to, f, _ := r.at(at)
			if f != flags && at > start {
				if err := fn(start, at-start, flags); err != nil {
					return err
				}
				start = at
			}
			at, flags = min(to, end), f
		}
	}
	if end > start {
		return fn(start, end-start, flags)
	}
	return nil
}

// extent is the run of a context at off, from what is known or by asking.
func (im *Image) extent(i int, off int64) (end int64, flags uint64, err error) {
	if end, flags, ok := im.known.look(i, off); ok {
		return end, flags, nil
	}
	select { // one asks, the others find the answer
	case im.known.asking <- struct{}{}:
		defer func() { <-im.known.asking }()
	case <-im.c.ctx.Done():
		return 0, 0, context.Cause(im.c.ctx)
	}
	if end, flags, ok := im.known.look(i, off); ok {
		return end, flags, nil
	}
	from, _ := im.around(off, off)
	status, err := im.fetch(im.c.ctx, from, im.Size())
	if err != nil {
		return 0, 0, err
	}
	end, flags, ok := status[i].at(off)
	if !ok {
		return 0, 0, fmt.Errorf("%s: %w: the status at offset %d ends at %d", im.c.name, ErrProtocol, from, status[i].end())
	}
	return end, flags, nil
}

// ExtentAt tells from base:allocation what reads as zero. An export that cannot
// say so is all data.
func (im *Image) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= im.Size() {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of %d bytes", im.c.name, off, im.Size())
	}
	e := image.Extent{Offset: off, Length: im.Size() - off, Kind: image.Data}
	i := slices.Index(im.c.base.contexts, nbd.BaseAllocation)
	if i < 0 || im.known.silent() {
		return e, nil
	}
	end, flags, err := im.extent(i, off)
	switch {
	case err == nil:
	case len(im.c.base.contexts) == 1 && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP)):
		im.known.silence()
		return e, nil
	default:
		return image.Extent{}, err
	}
	e.Length = end - off
	if flags&nbd.StateZero != 0 {
		e.Kind = image.Zero
	}
	return e, nil
}

func (n *known) silent() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.none
}

func (n *known) silence() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.none = true
}
