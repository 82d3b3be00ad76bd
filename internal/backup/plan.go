package backup

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// maxRun bounds how many slots of one kind are taken in one step, so that
// progress moves and cancellation is noticed in the largest hole.
const maxRun = 4096

// run is a number of adjacent slots with one thing to be done about them.
type run struct {
	first, n int
	kind     image.Kind
	// mixed is set for a single Data slot that does not lie in one extent:
	// parts of it need no reading.
	mixed bool
	// ahead is how many bytes of data are known to follow a run of data.
	ahead int64
}

// plan turns the extents of an image into runs of slots, in order, for any
// number of takers. Its work is proportional to the number of extents and of
// data slots.
type plan struct {
	img   image.Image
	size  int64
	chunk int64
	reuse bool // else Unchanged is Data

	mu  sync.Mutex
	off int64        // everything before it is taken
	cur image.Extent // the last answer, joined with its neighbours of the same kind
}

func newPlan(img image.Image, chunk int, reuse bool) *plan {
	return &plan{img: img, size: img.Size(), chunk: int64(chunk), reuse: reuse}
}

// next returns the next run, with at most most slots if they are data; ok is
// false at the end.
func (p *plan) next(most int) (r run, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off >= p.size {
		return run{}, false, nil
	}
	if err := p.look(); err != nil {
		return run{}, false, err
	}
	slots := maxRun
	if p.cur.Kind == image.Data {
		slots = most
	}
	r = run{first: int(p.off / p.chunk), kind: p.cur.Kind}
	for r.n < slots && p.off < p.size {
		end := min(p.off+p.chunk, p.size)
		if end > p.cur.End() {
			break
		}
		p.off = end
		r.n++
	}
	if r.n == 0 { // no whole slot is of one kind
		r.n, r.kind, r.mixed = 1, image.Data, true
		p.off = min(p.off+p.chunk, p.size)
	}
	if r.kind == image.Data {
		r.ahead = max(p.cur.End()-p.off, 0)
	}
	return r, true, nil
}

// look makes cur the extent at off, as long as next can use it.
func (p *plan) look() error {
	if p.cur.End() <= p.off || p.cur.Length == 0 {
		e, err := p.ask(p.off)
		if err != nil {
			return err
		}
		p.cur = e
	}
	enough := min(p.off+maxRun*p.chunk, p.size)
	for p.cur.End() < enough {
		e, err := p.ask(p.cur.End())
		if err != nil {
			return err
		}
		if e.Kind != p.cur.Kind {
			break
		}
		p.cur.Length += e.Length
		if p.cur.Kind == image.Data && p.cur.End() >= p.off+2*p.chunk {
			break // data is handed out slot by slot: the rest can wait
		}
	}
	return nil
}

func (p *plan) ask(off int64) (image.Extent, error) {
	e, err := extentAt(p.img, off, p.size)
	if e.Kind == image.Unchanged && !p.reuse {
		e.Kind = image.Data
	}
	return e, err
}

// extentAt does not trust an image to keep within itself.
func extentAt(img image.Image, off, size int64) (image.Extent, error) {
	e, err := image.ExtentAt(img, off)
	if err != nil {
		return image.Extent{}, err
	}
	if e.Offset != off || e.Length <= 0 || e.Length > size-off {
		return image.Extent{}, fmt.Errorf("internal error: the extent at offset %d of %d bytes is [%d,+%d)", off, size, e.Offset, e.Length)
	}
	return e, nil
}
