package overlay

import (
	"fmt"
	"iter"

	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// ExtentAt is Data or Zero where the overlay has something of its own, and what
// the image below says elsewhere.
func (o *Overlay) ExtentAt(off int64) (image.Extent, error) {
	e, err := o.ChangeAt(off)
	if err != nil || e.Kind != image.Unchanged {
		return e, err
	}
	below, err := image.ExtentAt(o.base, off)
	below.Length = min(below.Length, e.Length)
	return below, err
}

// ChangeAt is ExtentAt without the image below: what is read from there is
// Unchanged. Neighbours of one kind are one extent, unless that takes too long
// to find out.
func (o *Overlay) ChangeAt(off int64) (image.Extent, error) {
	if err := o.enter("look at"); err != nil {
		return image.Extent{}, err
	}
	defer o.leave()
	if off < 0 || off >= o.Size() {
		return image.Extent{}, o.errorf("look at", fmt.Errorf("extent at %d of %d bytes", off, o.Size()))
	}
	s, n, err := o.extent(off, o.Size()-off)
	if err != nil {
		return image.Extent{}, o.errorf("look at", err)
	}
	kind := [...]image.Kind{format.Base: image.Unchanged, format.Data: image.Data, format.Zero: image.Zero}[s]
	return image.Extent{Offset: off, Length: n, Kind: kind}, nil
}

// Changed yields what differs, or may differ, from the image below: extents of
// the kinds Data and Zero, in order, no two of a kind next to each other. It
// keeps nothing in memory but the map's pages. What is written meanwhile may be
// in it or not. An error is the last that it yields.
func (o *Overlay) Changed() iter.Seq2[image.Extent, error] {
	return func(yield func(image.Extent, error) bool) {
		var have image.Extent
		for off := int64(0); off < o.Size(); {
			e, err := o.ChangeAt(off)
			if err != nil {
				yield(image.Extent{}, err)
				return
			}
			off = e.End()
			if e.Kind == have.Kind && e.Offset == have.End() {
				have.Length += e.Length
				continue
			}
			if have.Length > 0 && have.Kind != image.Unchanged && !yield(have, nil) {
				return
			}
			have = e
		}
		if have.Length > 0 && have.Kind != image.Unchanged {
			yield(have, nil)
		}
	}
}

// WillNeed passes the hint to the image below, for what comes from there.
func (o *Overlay) WillNeed(off, n int64) {
	for end := min(off+n, o.Size()); off >= 0 && off < end; {
		e, err := o.ChangeAt(off)
		if err != nil {
			return // the read will say so
		}
		if e.Kind == image.Unchanged {
			image.WillNeed(o.base, off, min(e.End(), end)-off)
		}
		off = e.End()
	}
}
