package squashfs

import (
	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// metaBlock is a block of metadata, unpacked.
type metaBlock struct {
	data []byte
	next int64 // where the one behind it begins
}

// cursor is a place in metadata.
type cursor struct {
	f   *FS
	at  int64 // where the block begins, in the image
	off int   // in the block
}

// cursor goes to a place that is counted from a table.
func (f *FS) cursor(table int64, place uint64) cursor {
	return cursor{f: f, at: table + int64(place>>16&(1<<46-1)), off: int(place & 0xffff)}
}

// read fills p and goes on behind it.
func (c *cursor) read(p []byte) error {
	for {
		b, err := c.f.metaAt(c.at)
		if err != nil {
			return err
		}
		if c.off > len(b.data) {
			return fsread.Corrupt(layer, "the block of metadata at %d has %d bytes, one of them is sought at %d", c.at, len(b.data), c.off)
		}
		n := copy(p, b.data[c.off:])
		if c.off, p = c.off+n, p[n:]; c.off == len(b.data) {
			c.at, c.off = b.next, 0
		}
		if len(p) == 0 {
			return nil
		}
		if n == 0 && len(b.data) == 0 {
			return fsread.Corrupt(layer, "the block of metadata at %d is empty", c.at)
		}
	}
}

// skip goes n bytes on.
func (c *cursor) skip(n int64) error {
	var b [512]byte
	for ; n > 0; n -= int64(len(b)) {
		if err := c.read(b[:min(n, int64(len(b)))]); err != nil {
			return err
		}
	}
	return nil
}

func (f *FS) metaAt(at int64) (*metaBlock, error) {
	f.mu.Lock()
	b := f.meta[at]
	f.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b, err := f.readMeta(at)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.meta) >= maxMeta {
		for k := range f.meta { // any one
			delete(f.meta, k)
			break
		}
	}
	f.meta[at] = b
	return b, nil
}

func (f *FS) readMeta(at int64) (*metaBlock, error) {
	if at < superSize || at > f.img.Size()-2 {
		return nil, fsread.Corrupt(layer, "metadata at %d, the image has %d bytes", at, f.img.Size())
	}
	raw := make([]byte, min(2+metaSize, f.img.Size()-at))
	if err := fsread.ReadFull(f.img, layer, raw, at); err != nil {
		return nil, err
	}
	head := le.Uint16(raw)
	n := int(head & 0x7fff)
	if n == 0 {
		n = 0x8000
	}
	if n > metaSize || 2+n > len(raw) {
		return nil, fsread.Corrupt(layer, "the block of metadata at %d says %d bytes", at, n)
	}
	b := &metaBlock{data: raw[2 : 2+n], next: at + 2 + int64(n)}
	if head&0x8000 == 0 {
		out := make([]byte, metaSize)
		got, err := f.unpack(out, b.data)
		if err != nil {
			return nil, unpackError(err, "the block of metadata at %d", at)
		}
		b.data = out[:got]
	}
	return b, nil
}

// table is entries of a size each in blocks of metadata that a list at its place
// names.
type table struct {
	at      int64
	entries uint64
	size    int
}

// entry reads entry i.
func (f *FS) entry(t table, i uint64, p []byte) error {
	per := uint64(metaSize / t.size)
	var b [8]byte
	if err := fsread.ReadFull(f.img, layer, b[:], t.at+int64(i/per*8)); err != nil {
		return err
	}
	at := le.Uint64(b[:])
	if at > 1<<62 {
		return fsread.Corrupt(layer, "the table at %d has a block at %d", t.at, at)
	}
	c := cursor{f: f, at: int64(at), off: int(i%per) * t.size}
	return c.read(p)
}
