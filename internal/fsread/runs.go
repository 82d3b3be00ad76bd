package fsread

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// Run is where a part of a file lies in its image.
type Run struct {
	Offset, Length int64 // in the file
	At             int64 // in the image; [Hole]: the part is zeros
}

// Hole is the place of what has none.
const Hole = -1

// NewFile is a file of size bytes whose runs find tells: the run that holds off,
// 0 <= off < size. A run may reach behind the end of the file. find must be safe
// for concurrent use.
func NewFile(img image.Image, layer string, size int64, find func(off int64) (Run, error)) image.Image {
	return &file{img: img, layer: layer, size: size, find: find}
}

type file struct {
	img   image.Image
	layer string
	size  int64
	find  func(int64) (Run, error)
}

func (f *file) Size() int64 { return f.size }

// run is the run at off, cut to what is behind off and in the file.
func (f *file) run(off int64) (Run, error) {
	r, err := f.find(off)
	if err != nil {
		return Run{}, err
	}
	skip := off - r.Offset
	if skip < 0 || skip >= r.Length {
		return Run{}, fmt.Errorf("%s: run of %d bytes at %d does not hold %d", f.layer, r.Length, r.Offset, off)
	}
	if r.At != Hole {
		r.At += skip
	}
	return Run{Offset: off, Length: min(r.Length-skip, f.size-off), At: r.At}, nil
}

// ExtentAt knows the holes of the file, and those of the image below it.
func (f *file) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= f.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of a file of %d bytes", f.layer, off, f.size)
	}
	r, err := f.run(off)
	if err != nil {
		return image.Extent{}, err
	}
	e := image.Extent{Offset: off, Length: r.Length, Kind: image.Zero}
	if r.At == Hole {
		return e, nil
	}
	below, err := image.ExtentAt(f.img, r.At)
	if err != nil {
		return image.Extent{}, err
	}
	if e.Length = min(e.Length, below.Length); below.Kind != image.Zero {
		e.Kind = image.Data // what the image is compared with is not this file
	}
	return e, nil
}

func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	return image.ReadWithin(p, off, f.size, func(p []byte, off int64) (int, error) {
		for n < len(p) {
			r, err := f.run(off + int64(n))
			if err != nil {
				return n, err
			}
			part := p[n:min(int64(len(p)), int64(n)+r.Length)]
			if r.At == Hole {
				clear(part)
			} else if err := ReadFull(f.img, f.layer, part, r.At); err != nil {
				return n, err
			}
			n += len(part)
		}
		return n, nil
	})
}
