package overlay

import (
	"fmt"
	"io"
	"sync"

	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// pieceSize bounds what a write locks at a time.
const pieceSize = 1 << 20

// ReadAt reads blocks from where they are.
func (o *Overlay) ReadAt(p []byte, off int64) (int, error) {
	if err := o.enter("read"); err != nil {
		return 0, err
	}
	defer o.leave()
	return image.ReadWithin(p, off, o.Size(), o.read)
}

// read needs no lock: a state that changes meanwhile changes because of a
// write that runs at the same time, and what it replaces is still there.
func (o *Overlay) read(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		s, n, err := o.extent(at, int64(len(p)-done))
		if err != nil {
			return done, o.errorf("read", err)
		}
		part := p[done : done+int(n)]
		switch s {
		case format.Base:
			var k int
			k, err = o.base.ReadAt(part, at)
			if k == len(part) {
				break
			}
			if err == nil || err == io.EOF { //nolint:errorlint // an image returns it bare
				err = io.ErrUnexpectedEOF
			}
			return done + k, fmt.Errorf("overlay %s: the image below: %w", o.path, err)
		case format.Data:
			if err := readFull(o.file, part, o.data+at); err != nil {
				return done, o.errorf("read", fmt.Errorf("at offset %d: %w", at, err))
			}
		case format.Zero:
			clear(part)
		}
		done += len(part)
	}
	return done, nil
}

// extent is the state at off and how many of the next limit bytes have it.
func (o *Overlay) extent(off, limit int64) (format.State, int64, error) {
	first := off / blockSize
	s, n, err := o.m.run(first, (off+limit-1)/blockSize-first+1)
	return s, min(limit, (first+n)*blockSize-off), err
}

// WriteAt writes within Size.
func (o *Overlay) WriteAt(p []byte, off int64) (int, error) {
	if err := o.enterChange("write", off, int64(len(p))); err != nil {
		return 0, err
	}
	defer o.leave()
	done := 0
	for done < len(p) {
		at := off + int64(done)
		part := p[done:min(int64(len(p)), int64(done)+pieceSize-at%pieceSize)]
		if err := o.writePiece(part, at); err != nil {
			return done, o.errorf("write", fmt.Errorf("at offset %d: %w", at, err))
		}
		done += len(part)
	}
	return done, nil
}

// writePiece writes into a range that is locked as a whole.
func (o *Overlay) writePiece(p []byte, off int64) error {
	first, last := off/blockSize, (off+int64(len(p))-1)/blockSize
	if done, err := o.overwrite(p, off, first, last); done || err != nil {
		return err
	}
	o.locks.lock(first, last)
	defer o.locks.unlock(first, last)
	rest, at := p, off
	if n := o.bytesIn(first, at, len(rest)); n > 0 {
		if err := o.compose(first, rest[:n], at); err != nil {
			return err
		}
		rest, at = rest[n:], at+int64(n)
	}
	if begin := max(last*blockSize, at); len(rest) > 0 {
		if n := o.bytesIn(last, begin, int(at-begin)+len(rest)); n > 0 {
			if err := o.compose(last, rest[len(rest)-n:], begin); err != nil {
				return err
			}
			rest = rest[:len(rest)-n]
		}
	}
	if len(rest) > 0 {
		if err := o.put(rest, at); err != nil {
			return err
		}
	}
	return o.m.set(first, last-first+1, format.Data)
}

// overwrite writes in place if all blocks are in the file.
func (o *Overlay) overwrite(p []byte, off, first, last int64) (done bool, err error) {
	o.locks.rLock(first, last)
	defer o.locks.rUnlock(first, last)
	s, n, err := o.m.run(first, last-first+1)
	if err != nil || s != format.Data || n < last-first+1 {
		return false, err
	}
	return true, o.put(p, off)
}

// bytesIn is how many of n bytes at off lie in a block, 0 if they fill it.
func (o *Overlay) bytesIn(block, off int64, n int) int {
	begin := block * blockSize
	end := min(begin+blockSize, o.Size())
	n = int(min(int64(n), end-off))
	if off == begin && off+int64(n) == end {
		return 0
	}
	return n
}

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// compose writes a part of a block; if the block is not in the file, the rest
// of it comes from where it is, in the same write.
func (o *Overlay) compose(block int64, p []byte, off int64) error {
	s, _, err := o.m.run(block, 1)
	if err != nil {
		return err
	}
	if s == format.Data {
		return o.put(p, off)
	}
	buf := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(buf)
	begin := block * blockSize
	whole := buf[:min(blockSize, o.Size()-begin)]
	if _, err := o.read(whole, begin); err != nil {
		return err
	}
	copy(whole[off-begin:], p)
	return o.put(whole, begin)
}

// put writes into the data area. The mark comes after the write: a flush that
// does not see it covers no write that has returned.
func (o *Overlay) put(p []byte, off int64) error {
	n, err := o.file.WriteAt(p, o.data+off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if !o.wrote.Load() {
		o.wrote.Store(true)
	}
	return err
}
