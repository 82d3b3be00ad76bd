package ext

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// content is what a file holds.
type content struct {
	fs   *FS
	size int64
	file mapper
}

var (
	_ image.Extenter = (*content)(nil)
	_ image.Extenter = inline(nil)
)

func (f *FS) content(n *inode) (image.Image, error) {
	if n.flags&flagInline != 0 {
		return f.inline(n)
	}
	m, err := f.mapping(n)
	if err != nil {
		return nil, err
	}
	return &content{fs: f, size: n.size, file: m}, nil
}

func (c *content) Size() int64 { return c.size }

func (c *content) ReadAt(p []byte, off int64) (int, error) {
	return image.ReadWithin(p, off, c.size, c.read)
}

func (c *content) read(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		at, length, err := c.piece(off + int64(n))
		if err != nil {
			return n, err
		}
		part := p[n:min(int64(len(p)), int64(n)+length)]
		if at < 0 {
			clear(part)
		} else if err := c.fs.disk.read(part, at); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// piece says where the byte at off is, or -1 for zeros, and how many follow it
// there.
func (c *content) piece(off int64) (at, length int64, err error) {
	size := c.fs.sb.blockSize
	r, err := c.file.at(uint64(off / size))
	if err != nil {
		return 0, 0, err
	}
	skip := off - int64(r.first)*size
	length = int64(r.count)*size - skip
	if r.at == 0 {
		return -1, length, nil
	}
	return int64(r.at)*size + skip, length, nil
}

// ExtentAt knows the holes of the file and those of the image below.
func (c *content) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= c.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of %d bytes", layer, off, c.size)
	}
	e := image.Extent{Offset: off, Kind: image.Zero}
	at, length, err := c.piece(off)
	if err != nil {
		return e, err
	}
	if e.Length = min(length, c.size-off); at < 0 {
		return e, nil
	}
	e.Length, e.Kind, err = c.fs.disk.extent(at, e.Length)
	return e, err
}

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
