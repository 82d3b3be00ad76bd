package ext

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// content is what a file holds.
func (f *FS) content(n *inode) (image.Image, error) {
	if n.flags&flagInline != 0 {
		return f.inline(n)
	}
	return f.blocksOf(n), nil
}

// blocksOf is what lies in the blocks of a file.
func (f *FS) blocksOf(n *inode) image.Image {
	m, size := f.mapping(n), f.sb.blockSize
	return fsread.NewFile(f.disk, layer, n.size, func(off int64) (fsread.Run, error) {
		r, err := m.at(uint64(off / size))
		run := fsread.Run{Offset: int64(r.first) * size, Length: int64(r.count) * size, At: int64(r.at) * size}
		if r.at == 0 {
			run.At = fsread.Hole
		}
		return run, err
	})
}

var _ image.Extenter = inline(nil)

// inline is content that lies in the inode: what fits into the place for block
// numbers, and the rest in the attribute system.data.
type inline []byte

func (f *FS) inline(n *inode) (inline, error) {
	b := append(inline(nil), n.area()...)
	rest, err := f.inlineRest(n)
	if err != nil {
		return nil, err
	}
	b = append(b, rest...)
	if n.size > int64(len(b)) {
		return nil, fsread.Corrupt(layer, "inode %d: %d bytes of its %d are in it", n.num, len(b), n.size)
	}
	return b[:n.size], nil
}

func (b inline) Size() int64 { return int64(len(b)) }

func (b inline) ReadAt(p []byte, off int64) (int, error) {
	return image.ReadWithin(p, off, b.Size(), func(p []byte, off int64) (int, error) {
		return copy(p, b[off:]), nil
	})
}

func (b inline) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= b.Size() {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of %d bytes", layer, off, b.Size())
	}
	return image.Extent{Offset: off, Length: b.Size() - off, Kind: image.Data}, nil
}
