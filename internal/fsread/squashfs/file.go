package squashfs

import (
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Open opens a file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	n, err := f.inode(id)
	if err != nil {
		return nil, err
	}
	if n.kind != fsread.Regular {
		return nil, fsread.ErrNotRegular
	}
	c := &content{f: f, n: n, blocks: n.size / f.block, held: -1}
	if n.fragment == none {
		c.blocks = (n.size + f.block - 1) / f.block
	}
	c.list = newBlockList(n.rest, n.start)
	return c, nil
}

// content is a file.
type content struct {
	f      *FS
	n      inode
	blocks int64 // those that are not in a fragment

	mu   sync.Mutex
	list *blockList
	held int64 // the block in buf, -1: none
	buf  []byte
	raw  []byte
}

var _ image.Extenter = (*content)(nil)

func (c *content) Size() int64 { return c.n.size }

// length is how many bytes of the file a block has.
func (c *content) length(block int64) int64 { return min(c.f.block, c.n.size-block*c.f.block) }

func (c *content) ReadAt(p []byte, off int64) (n int, err error) {
	return image.ReadWithin(p, off, c.n.size, func(p []byte, off int64) (int, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for n < len(p) {
			at := off + int64(n)
			b, err := c.load(at / c.f.block)
			if err != nil {
				return n, err
			}
			part := p[n:]
			if within := at % c.f.block; b != nil {
				n += copy(part, b[within:])
			} else {
				part = part[:min(int64(len(part)), c.length(at/c.f.block)-within)]
				clear(part)
				n += len(part)
			}
		}
		return n, nil
	})
}

// extentBlocks bounds what one question looks at.
const extentBlocks = 1024

// ExtentAt knows the blocks that are holes.
func (c *content) ExtentAt(off int64) (image.Extent, error) {
	if off < 0 || off >= c.n.size {
		return image.Extent{}, fmt.Errorf("%s: extent at %d of a file of %d bytes", layer, off, c.n.size)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e := image.Extent{Offset: off}
	first := off / c.f.block
	for block := first; block < first+extentBlocks && block*c.f.block < c.n.size; block++ {
		kind := image.Data
		if block < c.blocks {
			_, stored, err := c.list.find(block)
			if err != nil {
				return image.Extent{}, err
			}
			if stored == 0 {
				kind = image.Zero
			}
		}
		if block > first && kind != e.Kind {
			break
		}
		e.Kind, e.Length = kind, block*c.f.block+c.length(block)-off
	}
	return e, nil
}

// load gives a block of the file, unpacked; nil for a hole.
func (c *content) load(block int64) ([]byte, error) {
	if block >= c.blocks {
		return c.tail(c.length(block))
	}
	want := c.length(block)
	if c.held == block {
		return c.buf[:want], nil
	}
	at, stored, err := c.list.find(block)
	if err != nil || stored == 0 {
		return nil, err
	}
	c.held = -1
	if c.buf == nil {
		c.buf = make([]byte, min(c.f.block, c.n.size))
	}
	b, err := c.f.readBlock(c.buf[:want], &c.raw, at, stored)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != want {
		return nil, fsread.Corrupt(layer, "block %d of the file at %#x has %d bytes", block, c.n.id.Number, len(b))
	}
	c.held = block
	return b, nil
}

// tail gives the end of the file, which is in a fragment.
func (c *content) tail(want int64) ([]byte, error) {
	b, err := c.f.fragment(c.n.fragment)
	if err != nil {
		return nil, err
	}
	if int64(c.n.offset)+want > int64(len(b)) {
		return nil, fsread.Corrupt(layer, "the file at %#x has its end at %d of a fragment of %d bytes", c.n.id.Number, c.n.offset, len(b))
	}
	return b[c.n.offset:][:want], nil
}

// packedNot says in the length of a block that it is not compressed.
const packedNot = 1 << 24

// readBlock reads a block of contents into dst; raw is room for what is stored, and
// grows as it is needed.
func (f *FS) readBlock(dst []byte, raw *[]byte, at int64, stored uint32) ([]byte, error) {
	n := int(stored &^ packedNot)
	if stored&packedNot != 0 {
		if n > len(dst) {
			return nil, fsread.Corrupt(layer, "the block at %d says %d bytes", at, n)
		}
		return dst[:n], fsread.ReadFull(f.img, layer, dst[:n], at)
	}
	if int64(n) > f.block {
		return nil, fsread.Corrupt(layer, "the block at %d says %d bytes", at, n)
	}
	if cap(*raw) < n {
		*raw = make([]byte, n)
	}
	packed := (*raw)[:n]
	if err := fsread.ReadFull(f.img, layer, packed, at); err != nil {
		return nil, err
	}
	got, err := f.unpack(dst, packed)
	if err != nil {
		return nil, unpackError(err, "the block at %d", at)
	}
	return dst[:got], nil
}

// fragment gives a block that holds tails.
func (f *FS) fragment(i uint32) ([]byte, error) {
	if uint64(i) >= f.fragments.entries {
		return nil, fsread.Corrupt(layer, "a file has its end in the fragment %d of %d", i, f.fragments.entries)
	}
	var e [16]byte
	if err := f.entry(f.fragments, uint64(i), e[:]); err != nil {
		return nil, err
	}
	at := int64(min(le.Uint64(e[:]), 1<<62))
	f.mu.Lock()
	b := f.tails[at]
	f.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b, err := f.readBlock(make([]byte, f.block), new([]byte), at, le.Uint32(e[8:]))
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tails) >= maxFragments {
		for k := range f.tails { // any one
			delete(f.tails, k)
			break
		}
	}
	f.tails[at] = b
	return b, nil
}
