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

var _ image.Extenter = (*disk)(nil)

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

// Size is that of the image.
func (d *disk) Size() int64 { return d.img.Size() }

// ReadAt reads from a byte of the file system.
func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	return image.ReadWithin(p, off, d.Size(), func(p []byte, off int64) (n int, err error) {
		for n < len(p) {
			m, err := d.piece(p[n:], off+int64(n))
			if err != nil {
				return n, err
			}
			n += m
		}
		return n, nil
	})
}

// piece reads up to where the journal begins or ends to count.
func (d *disk) piece(p []byte, off int64) (int, error) {
	block := uint64(off / d.size)
	next, ok := d.over.next(block)
	if ok && next == block {
		b, err := d.block(block)
		if err != nil {
			return 0, err
		}
		return copy(p, b[off%d.size:]), nil
	}
	if ok {
		p = p[:min(int64(len(p)), int64(next)*d.size-off)]
	}
	return len(p), fsread.ReadFull(d.img, layer, p, off)
}

// ExtentAt knows what the image knows where the journal has nothing.
func (d *disk) ExtentAt(off int64) (image.Extent, error) {
	e, err := image.ExtentAt(d.img, off)
	next, ok := d.over.next(uint64(off / d.size))
	switch {
	case err != nil || !ok:
	case int64(next)*d.size <= off:
		e.Kind, e.Length = image.Data, (int64(next)+1)*d.size-off
	default:
		e.Length = min(e.Length, int64(next)*d.size-off)
	}
	return e, err
}
