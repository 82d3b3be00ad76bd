package vm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/image"
)

const (
	blockSize = 4096
	// maxChanged is how many bytes of a disk a guest may change: much more than any
	// journal.
	maxChanged = 1 << 30
)

// overlay is an image that can be written to: what is written goes to a file
// without a name, in blocks of 4 KiB, 8 bytes of memory for each.
type overlay struct {
	base image.Image

	mu     sync.RWMutex
	file   *os.File         // made with the first write
	blocks map[int64]uint32 // number in the image to number in file
}

var _ image.Device = (*overlay)(nil)

func newOverlay(base image.Image) *overlay {
	return &overlay{base: base, blocks: map[int64]uint32{}}
}

func (o *overlay) Size() int64 { return o.base.Size() }

// ReadAt reads what was written, and the image elsewhere.
func (o *overlay) ReadAt(p []byte, off int64) (n int, err error) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if len(o.blocks) == 0 {
		return o.base.ReadAt(p, off)
	}
	for n < len(p) {
		at := off + int64(n)
		run, in := o.run(at, int64(len(p)-n))
		part := p[n : n+int(run)]
		k := 0
		if in >= 0 {
			k, err = o.file.ReadAt(part, in)
		} else {
			k, err = o.base.ReadAt(part, at)
		}
		n += k
		if k < len(part) {
			return n, err
		}
	}
	return n, nil
}

// run is how far what is at off, at most n bytes, lies in one place: at in of the
// file, or in the image where in is -1.
func (o *overlay) run(off, n int64) (length, in int64) {
	block := off / blockSize
	slot, ok := o.blocks[block]
	length = min(n, (block+1)*blockSize-off)
	if ok {
		return length, int64(slot)*blockSize + off%blockSize
	}
	for length < n {
		if _, ok := o.blocks[(off+length)/blockSize]; ok {
			break
		}
		length = min(n, length+blockSize)
	}
	return length, -1
}

// WriteAt writes to the file. The rest of a block that is written in part is copied
// before.
func (o *overlay) WriteAt(p []byte, off int64) (n int, err error) {
	if off < 0 || off+int64(len(p)) > o.Size() {
		return 0, fmt.Errorf("write at %d of a disk of %d bytes: %w", off, o.Size(), syscall.EINVAL)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for n < len(p) {
		at := off + int64(n)
		part := p[n:min(int64(len(p)), int64(n)+blockSize-at%blockSize)]
		in, err := o.own(at/blockSize, len(part) == blockSize)
		if err != nil {
			return n, err
		}
		if _, err := o.file.WriteAt(part, in+at%blockSize); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// own makes a block the file's and says where it is there. All of it is about to be
// written, or it is copied.
func (o *overlay) own(block int64, all bool) (in int64, err error) {
	if slot, ok := o.blocks[block]; ok {
		return int64(slot) * blockSize, nil
	}
	if len(o.blocks) >= maxChanged/blockSize {
		return 0, fmt.Errorf("the restore machine changed more than %d MiB of a disk: %w", maxChanged>>20, syscall.ENOSPC)
	}
	if o.file == nil {
		f, err := os.CreateTemp("", "holdfast-restore-*")
		if err != nil {
			return 0, err
		}
		if err := os.Remove(f.Name()); err != nil {
			return 0, errors.Join(err, f.Close())
		}
		o.file = f
	}
	in = int64(len(o.blocks)) * blockSize
	if !all {
		var buf [blockSize]byte
		n := min(blockSize, o.Size()-block*blockSize)
		if k, err := o.base.ReadAt(buf[:n], block*blockSize); int64(k) < n {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		if _, err := o.file.WriteAt(buf[:], in); err != nil {
			return 0, err
		}
	}
	o.blocks[block] = uint32(in / blockSize)
	return in, nil
}

// Zero writes zeros.
func (o *overlay) Zero(off, n int64) error {
	buf := make([]byte, min(n, 256<<10))
	for end := off + n; off < end; {
		k := min(int64(len(buf)), end-off)
		if _, err := o.WriteAt(buf[:k], off); err != nil {
			return err
		}
		off += k
	}
	return nil
}

// Discard leaves what there is.
func (o *overlay) Discard(int64, int64) error { return nil }

// Flush has nothing to do: nothing is to last.
func (o *overlay) Flush() error { return nil }

// ExtentAt knows the zeros of the image where nothing was written.
func (o *overlay) ExtentAt(off int64) (image.Extent, error) {
	e, err := image.ExtentAt(o.base, off)
	if err != nil {
		return e, err
	}
	o.mu.RLock()
	defer o.mu.RUnlock()
	if len(o.blocks) == 0 {
		return e, nil
	}
	const most = 64 << 20 // looked at for one answer
	length, in := o.run(off, min(e.Length, most))
	if in >= 0 {
		return image.Extent{Offset: off, Length: length, Kind: image.Data}, nil
	}
	return image.Extent{Offset: off, Length: length, Kind: e.Kind}, nil
}

// Close gives the file back.
func (o *overlay) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
