package qcow2

import (
	"fmt"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Delta is the image with all that its first files do not hold as
// [image.Unchanged]: what they add to the files behind them.
type Delta struct {
	*Image
	layers int
}

var _ image.Extenter = (*Delta)(nil)

// Layers is the number of qcow2 files of the chain.
func (i *Image) Layers() int { return len(i.layers) }

// Delta returns what the first files of the chain, that many, add to the rest.
// Without a rest nothing is unchanged.
func (i *Image) Delta(layers int) (*Delta, error) {
	if layers < 1 || layers > len(i.layers) {
		return nil, fmt.Errorf("image %s: the first %d of %d files", i.layers[0].file.Path(), layers, len(i.layers))
	}
	return &Delta{i, layers}, nil
}

// ExtentAt is that of the image where the first files hold something.
func (d *Delta) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= d.Size() || d.layers == len(d.Image.layers) && d.base == nil {
		return d.Image.ExtentAt(off)
	}
	most := d.Size() - off
	for _, l := range d.Image.layers[:d.layers] {
		kind, n := format.Zero, most // behind the end of a file in the chain
		if off < l.h.Size {
			m, run, err := l.run(off, min(most, l.h.Size-off))
			if err != nil {
				return image.Extent{}, d.failed(l, off, err)
			}
			kind, n = m.Kind, run
		}
		most = n
		if kind == format.Unallocated {
			continue
		}
		e, err := d.Image.ExtentAt(off)
		e.Length = min(e.Length, most)
		return e, err
	}
	return image.Extent{Offset: off, Length: most, Kind: image.Unchanged}, nil
}
