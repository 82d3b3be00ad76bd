package btrfs

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Kinds of extents, and of compression.
const (
	extentInline   = 0
	extentRegular  = 1
	extentReserved = 2

	packNone = 0
	packZlib = 1
	packLZO  = 2
	packZstd = 3
)

// extent is a part of a file.
type extent struct {
	start, end int64 // in the file
	hole       bool
	pack       byte
	inline     []byte // as it is stored
	at         uint64 // logical address of what is stored; with compression of all of it
	stored     int64
	skip       int64 // bytes of what is unpacked before those of the file
	unpacked   int64
}

// content is a file.
type content struct {
	f    *FS
	r    root
	id   fsread.ID
	size int64

	mu   sync.Mutex
	last extent // that was found last
	buf  []byte // unpacked, of the extent at bufFor
	from int64  // start of that extent
}

// Open opens a file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	st, err := f.Stat(id)
	if err != nil {
		return nil, err
	}
	if st.Kind != fsread.Regular {
		return nil, fsread.ErrNotRegular
	}
	return f.content(id, st.Size)
}

func (f *FS) content(id fsread.ID, size int64) (*content, error) {
	r, err := f.tree(id.Tree)
	if err != nil {
		return nil, err
	}
	return &content{f: f, r: r, id: id, size: size}, nil
}

// maxTarget is what Linux allows.
const maxTarget = 4095

// Readlink reads the target of a symbolic link.
func (f *FS) Readlink(id fsread.ID) (string, error) {
	st, err := f.Stat(id)
	if err != nil {
		return "", err
	}
	if st.Kind != fsread.Symlink {
		return "", fsread.ErrNotRegular
	}
	if st.Size < 1 || st.Size > maxTarget {
		return "", fsread.Corrupt(layer, "the symbolic link %d has a target of %d bytes", id.Number, st.Size)
	}
	c, err := f.content(id, st.Size)
	if err != nil {
		return "", err
	}
	b := make([]byte, st.Size)
	return string(b), fsread.ReadFull(c, layer, b, 0)
}

func (c *content) Size() int64 { return c.size }

// ExtentAt knows the holes of the file, and those of the image below it.
func (c *content) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= c.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of a file of %d bytes", layer, off, c.size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x, err := c.extent(off)
	if err != nil {
		return image.Extent{}, err
	}
	e := image.Extent{Offset: off, Length: min(x.end, c.size) - off}
	if x.hole {
		e.Kind = image.Zero
	}
	return e, nil
}

func (c *content) ReadAt(p []byte, off int64) (n int, err error) {
	return image.ReadWithin(p, off, c.size, func(p []byte, off int64) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n < len(p) {
			at := off + int64(n)
			x, err := c.extent(at)
			if err != nil {
				return n, err
			}
			part := p[n:min(int64(len(p)), int64(n)+x.end-at)]
			if err := c.read(x, part, at-x.start); err != nil {
				return n, err
			}
			n += len(part)
		}
		return n, nil
	})
}

// read reads from an extent.
func (c *content) read(x extent, p []byte, off int64) error {
	switch {
	case x.hole:
		clear(p)
		return nil
	case x.pack == packNone && x.inline == nil:
		return c.f.readLogical(p, x.at+uint64(x.skip+off))
	}
	b, err := c.unpacked(x)
	if err != nil {
		return err
	}
	clear(p)
	if off += x.skip; off < int64(len(b)) { // an inline extent may be shorter than its sector
		copy(p, b[off:])
	}
	return nil
}

// unpacked gives an extent as it was before it was compressed.
func (c *content) unpacked(x extent) ([]byte, error) {
	if c.buf != nil && c.from == x.start {
		return c.buf, nil
	}
	stored := x.inline
	if stored == nil {
		stored = make([]byte, x.stored)
		if err := c.f.readLogical(stored, x.at); err != nil {
			return nil, err
		}
	}
	b, ok := unpack(x.pack, stored, x.unpacked, c.f.sector)
	if !ok {
		return nil, fsread.Corrupt(layer, "inode %d of tree %d: what is compressed at %d cannot be decompressed", c.id.Number, c.id.Tree, x.start)
	}
	c.buf, c.from = b, x.start
	return b, nil
}

// readLogical reads from addresses.
func (f *FS) readLogical(p []byte, at uint64) error {
	for len(p) > 0 {
		ways, length, err := f.place(at)
		if err != nil {
			return err
		}
		n := min(int64(len(p)), length)
		if err := ways[0].read(p[:n]); err != nil {
			return err
		}
		p, at = p[n:], at+uint64(n)
	}
	return nil
}

// extent finds the extent that holds off.
func (c *content) extent(off int64) (extent, error) {
	if x := c.last; x.end > off && x.start <= off && x.end > 0 {
		return x, nil
	}
	k, data, ok, err := c.f.before(c.r, key{object: c.id.Number, kind: itemExtent, offset: uint64(off)})
	if err != nil {
		return extent{}, err
	}
	if ok {
		x, err := c.parse(int64(k.offset), data)
		if err != nil {
			return extent{}, err
		}
		if off < x.end {
			c.last = x
			return x, nil
		}
	}
	// Nothing is there up to the next one.
	x := extent{start: off, end: c.size, hole: true}
	err = c.f.each(c.r, key{object: c.id.Number, kind: itemExtent, offset: uint64(off)}, func(k key, _ []byte) (bool, error) {
		if k.object == c.id.Number && k.kind == itemExtent {
			x.end = min(x.end, max(off+1, int64(min(k.offset, 1<<62))))
		}
		return false, nil
	})
	c.last = x
	return x, err
}

func (c *content) parse(start int64, b []byte) (extent, error) {
	bad := fsread.Corrupt(layer, "inode %d of tree %d has an extent at %d that makes no sense", c.id.Number, c.id.Tree, start)
	if len(b) < inlineHeader || start < 0 {
		return extent{}, bad
	}
	if b[17] != 0 || le.Uint16(b[18:]) != 0 {
		return extent{}, fsread.Unsupported(layer, "an encrypted file")
	}
	x := extent{start: start, pack: b[16], unpacked: int64(le.Uint64(b[8:]))}
	if x.pack > packZstd {
		return extent{}, fsread.Unsupported(layer, "compression of kind %d", x.pack)
	}
	if b[20] == extentInline {
		x.inline = append([]byte{}, b[inlineHeader:]...)
		if start != 0 || x.unpacked < 0 || x.unpacked > maxUnpacked {
			return extent{}, bad
		}
		x.end = max(1, (x.unpacked+c.f.sector-1)/c.f.sector*c.f.sector)
		return x, nil
	}
	if len(b) < inlineHeader+32 {
		return extent{}, bad
	}
	x.at, x.stored = le.Uint64(b[21:]), int64(le.Uint64(b[29:]))
	x.skip = int64(le.Uint64(b[37:]))
	length := int64(le.Uint64(b[45:]))
	x.end = start + length
	x.hole = x.at == 0 || b[20] == extentReserved
	switch {
	case b[20] > extentReserved, length < 1, x.end < start, x.skip < 0, x.stored < 0:
		return extent{}, bad
	case x.pack != packNone && !x.hole:
		if x.unpacked < 1 || x.unpacked > maxUnpacked || x.stored > maxUnpacked || x.skip+length > x.unpacked || x.skip+length < 0 {
			return extent{}, bad
		}
	case !x.hole && (x.skip > x.stored-length || x.stored > 1<<62):
		return extent{}, bad
	}
	return x, nil
}
