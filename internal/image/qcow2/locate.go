package qcow2

import (
	"fmt"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// place is where a range of the disk is.
type place struct {
	kind   format.Kind // Zero, Data or Compressed
	length int64       // bytes of the disk, at least one
	layer  *layer      // nil in the raw base and behind the end of the chain
	file   File        // of Data
	host   int64       // of Data: the offset in file; of Compressed: of the cluster's bytes
	packed int64       // of Compressed: their length at most
	within int64       // of Compressed: offset in the cluster
}

// locate finds the byte at off and how far, up to most bytes, its neighbours
// are next to it. A backing file that is shorter than its overlay continues in
// zeros.
func (i *Image) locate(off, most int64) (place, error) {
	for _, l := range i.layers {
		if off >= l.h.Size {
			return place{kind: format.Zero, length: most}, nil
		}
		m, n, err := l.run(off, min(most, l.h.Size-off))
		if err != nil {
			return place{layer: l}, err
		}
		most = n
		if m.Kind != format.Unallocated {
			return place{
				kind: m.Kind, length: n, layer: l, file: l.data, host: m.Host, packed: m.Length,
				within: off & (l.h.Cluster() - 1),
			}, nil
		}
	}
	if i.base == nil || off >= i.base.Size() {
		return place{kind: format.Zero, length: most}, nil
	}
	return place{kind: format.Data, length: min(most, i.base.Size()-off), file: i.base, host: off}, nil
}

// mergeLimit bounds the pieces that make one extent, so that a question is
// answered in bounded time.
const mergeLimit = 1024

// ExtentAt tells zeros from data: by the tables of the chain, and by the holes
// of the files that the data is in.
func (i *Image) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= i.Size() {
		return image.Extent{}, fmt.Errorf("image %s: extent at %d of %d bytes", i.layers[0].file.Path(), off, i.Size())
	}
	whole, err := i.piece(off)
	for range mergeLimit {
		if err != nil || whole.End() >= i.Size() {
			break
		}
		var next image.Extent
		if next, err = i.piece(whole.End()); err != nil {
			return whole, nil //nolint:nilerr // whoever goes on from here meets the error
		}
		if next.Kind != whole.Kind {
			break
		}
		whole.Length += next.Length
	}
	return whole, err
}

func (i *Image) piece(off int64) (image.Extent, error) {
	pl, err := i.locate(off, i.Size()-off)
	if err != nil {
		return image.Extent{}, i.failed(pl.layer, off, err)
	}
	e := image.Extent{Offset: off, Length: pl.length, Kind: image.Data}
	switch {
	case pl.kind == format.Zero:
		e.Kind = image.Zero
	case pl.kind == format.Data && pl.host < pl.file.Size(): // behind it, reading reports the damage
		below, err := pl.file.ExtentAt(pl.host)
		if err != nil {
			return image.Extent{}, i.failed(pl.layer, off, err)
		}
		e.Kind = below.Kind
		e.Length = min(e.Length, below.Length)
	}
	return e, nil
}
