package lvm

import (
	"fmt"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// place is where an image counts from.
type place struct {
	img image.Image
	off int64
}

// piece is a segment of a volume. Without areas it is zeros, or an error.
type piece struct {
	start, size int64
	stripe      int64 // bytes that follow each other in one area
	areas       []place
	err         error
}

// volume is the content of a logical volume.
type volume struct {
	size   int64
	pieces []piece // in order, without gaps
}

var (
	_ image.Extenter = (*volume)(nil)
	_ image.Adviser  = (*volume)(nil)
)

func (v *volume) Size() int64 { return v.size }

// at finds the piece of a byte, where the byte is in one of its areas, and how
// many follow it there.
func (v *volume) at(off int64) (p *piece, on place, n int64) {
	i := sort.Search(len(v.pieces), func(i int) bool { return v.pieces[i].start > off }) - 1
	p = &v.pieces[i]
	off -= p.start
	if len(p.areas) == 0 {
		return p, place{}, p.size - off
	}
	stripe, within := off/p.stripe, off%p.stripe
	n = int64(len(p.areas))
	on = p.areas[stripe%n]
	on.off += stripe/n*p.stripe + within
	return p, on, p.stripe - within
}

func (v *volume) ReadAt(b []byte, off int64) (int, error) {
	return image.ReadWithin(b, off, v.size, func(b []byte, off int64) (n int, err error) {
		for n < len(b) {
			p, on, m := v.at(off + int64(n))
			part := b[n:min(int64(len(b)), int64(n)+m)]
			switch {
			case p.err != nil:
				return n, p.err
			case on.img == nil:
				clear(part)
			default:
				if m, err := on.img.ReadAt(part, on.off); m < len(part) {
					return n + m, err
				}
			}
			n += len(part)
		}
		return n, nil
	})
}

// ExtentAt passes the question on; what an image is compared with is not the
// volume.
func (v *volume) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= v.size {
		return image.Extent{}, fmt.Errorf("lvm: extent at %d of a volume of %d bytes", off, v.size)
	}
	p, on, n := v.at(off)
	e := image.Extent{Offset: off, Length: n}
	switch {
	case p.err != nil:
		return e, nil
	case on.img == nil:
		e.Kind = image.Zero
		return e, nil
	}
	below, err := image.ExtentAt(on.img, on.off)
	if err != nil {
		return e, err
	}
	if below.Kind == image.Zero {
		e.Kind = image.Zero
	}
	e.Length = min(n, below.Length)
	return e, nil
}

// WillNeed passes the hint on for the first area that it touches.
func (v *volume) WillNeed(off, n int64) {
	if off < 0 || off >= v.size {
		return
	}
	if _, on, m := v.at(off); on.img != nil {
		image.WillNeed(on.img, on.off, min(n, m))
	}
}
