package md

import (
	"crypto/subtle"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// content is what an array holds.
type content struct {
	a *Array
	layout
}

var (
	_ image.Extenter = (*content)(nil)
	_ image.Adviser  = (*content)(nil)
)

func (c *content) Size() int64 { return c.size }

// piece finds a part, and the first of its copies that is there, nil if none is.
func (c *content) piece(off int64) (p piece, m *Member, at int64) {
	p = c.find(off)
	p.length = min(p.length, c.size-off)
	for _, s := range p.copies {
		if m := c.a.slots[s.slot]; m != nil {
			return p, m, s.off
		}
	}
	return p, nil, p.copies[0].off
}

func (c *content) ReadAt(b []byte, off int64) (n int, err error) {
	return image.ReadWithin(b, off, c.size, func(b []byte, off int64) (int, error) {
		for n < len(b) {
			p, m, at := c.piece(off + int64(n))
			part := b[n:min(int64(len(b)), int64(n)+p.length)]
			if m != nil {
				err = m.read(part, at)
			} else {
				part = part[:min(len(part), maxParity)]
				err = c.compute(p, part, at)
			}
			if err != nil {
				return n, err
			}
			n += len(part)
		}
		return n, nil
	})
}

// read reads from the data of a member.
func (m *Member) read(b []byte, at int64) error {
	if at > m.size-int64(len(b)) {
		return fsread.Corrupt(layer, "member %d of array %s ends before byte %d of its data", m.number, m.Name, at+int64(len(b)))
	}
	return fsread.ReadFull(m.img, layer, b, m.start+at)
}

// compute makes what was on a member that is missing of what is on all others.
func (c *content) compute(p piece, b []byte, at int64) error {
	if !p.parity {
		return &MissingError{Array: c.a.Name, Have: c.a.have, Of: c.a.members, Behind: c.a.behind}
	}
	clear(b)
	other := make([]byte, len(b))
	for slot, m := range c.a.slots {
		if m == nil || slot == p.q {
			continue
		}
		if err := m.read(other, at); err != nil {
			return err
		}
		subtle.XORBytes(b, b, other)
	}
	return nil
}

// ExtentAt passes the question on; what a disk is compared with is not the array.
func (c *content) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= c.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of an array of %d bytes", layer, off, c.size)
	}
	p, m, at := c.piece(off)
	e := image.Extent{Offset: off, Length: p.length}
	if m == nil || at >= m.size {
		return e, nil // reading it says what is wrong
	}
	below, err := image.ExtentAt(m.img, m.start+at)
	if err != nil {
		return e, err
	}
	if below.Kind == image.Zero {
		e.Kind = image.Zero
	}
	e.Length = min(e.Length, below.Length)
	return e, nil
}

// WillNeed passes the hint on for the first member that it touches.
func (c *content) WillNeed(off, n int64) {
	if off < 0 || off >= c.size {
		return
	}
	if p, m, at := c.piece(off); m != nil {
		image.WillNeed(m.img, m.start+at, min(n, p.length))
	}
}
