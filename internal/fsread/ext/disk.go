package ext

import (
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// cacheBytes bounds the blocks of metadata that are kept.
const cacheBytes = 8 << 20

// disk is the image in blocks, with what the journal committed laid over it.
type disk struct {
	img    image.Image
	size   int64 // of a block
	blocks uint64
	over   overlay

	mu         sync.Mutex
	young, old map[uint64][]byte // what was read lately, and before
}

func newDisk(img image.Image, s *super) *disk {
	return &disk{img: img, size: s.blockSize, blocks: s.blocks, young: map[uint64][]byte{}}
}

// block is one block of metadata. It is shared: nobody changes it.
func (d *disk) block(n uint64) ([]byte, error) {
	if b := d.cached(n); b != nil {
		return b, nil
	}
	b := make([]byte, d.size)
	if err := d.fresh(b, n); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keep(n, b)
	return b, nil
}

// fresh reads a block past the cache.
func (d *disk) fresh(b []byte, n uint64) error {
	if n >= d.blocks {
		return fsread.Corrupt(layer, "block %d of %d is referred to", n, d.blocks)
	}
	if c, ok := d.over.at(n); ok {
		return d.over.read(d, b, c)
	}
	return fsread.ReadFull(d.img, layer, b, int64(n)*d.size)
}

func (d *disk) cached(n uint64) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.young[n]; b != nil {
		return b
	}
	b := d.old[n]
	if b != nil {
		d.keep(n, b)
	}
	return b
}

// keep adds a block to the young ones; when these fill half of the cache, they
// are the old ones. The caller holds mu.
func (d *disk) keep(n uint64, b []byte) {
	if len(d.young) >= int(cacheBytes/2/d.size) {
		d.young, d.old = map[uint64][]byte{}, d.young
	}
	d.young[n] = b
}

// read fills p from a byte of the file system.
func (d *disk) read(p []byte, off int64) error {
	for len(p) > 0 {
		n := int64(len(p))
		block := uint64(off / d.size)
		next, ok := d.over.next(block)
		switch {
		case ok && next == block:
			b, err := d.block(block)
			if err != nil {
				return err
			}
			n = int64(copy(p, b[off%d.size:]))
		default:
			if ok {
				n = min(n, int64(next)*d.size-off)
			}
			if err := fsread.ReadFull(d.img, layer, p[:n], off); err != nil {
				return err
			}
		}
		p, off = p[n:], off+n
	}
	return nil
}

// extent says what is known of n bytes at off without reading them, in the terms
// of the file that they belong to.
func (d *disk) extent(off, n int64) (length int64, kind image.Kind, err error) {
	next, ok := d.over.next(uint64(off / d.size))
	if ok && int64(next)*d.size <= off {
		return min(n, (int64(next)+1)*d.size-off), image.Data, nil
	}
	if ok {
		n = min(n, int64(next)*d.size-off)
	}
	e, err := image.ExtentAt(d.img, off)
	if err != nil {
		return 0, 0, err
	}
	if e.Kind != image.Zero {
		e.Kind = image.Data // what it is compared with means nothing here
	}
	return min(n, e.Length), e.Kind, nil
}
