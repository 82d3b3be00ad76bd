package overlay

import (
	"errors"
	"fmt"

	format "github.com/holdfast-backup/holdfast/internal/format/overlay"
)

// zeroPiece bounds what a Zero locks at a time.
const zeroPiece = 64 << 20

// Zero makes [off, off+n) read as zeros and releases its space.
func (o *Overlay) Zero(off, n int64) error { return o.zero("zero", off, n, true) }

// Discard makes the whole blocks of [off, off+n) read as zeros and releases
// their space. Blocks that are only touched stay as they are.
func (o *Overlay) Discard(off, n int64) error { return o.zero("discard", off, n, false) }

func (o *Overlay) zero(what string, off, n int64, edges bool) error {
	if err := o.enterChange(what, off, n); err != nil {
		return err
	}
	defer o.leave()
	for n > 0 {
		k := min(n, zeroPiece-off%zeroPiece)
		if err := o.zeroRange(off, off+k, edges); err != nil {
			return o.errorf(what, fmt.Errorf("at offset %d: %w", off, err))
		}
		off, n = off+k, n-k
	}
	return nil
}

func (o *Overlay) zeroRange(from, to int64, edges bool) error {
	first, end := (from+blockSize-1)/blockSize, to/blockSize
	if to == o.Size() {
		end = format.Blocks(to)
	}
	if first >= end {
		if !edges {
			return nil
		}
		if between := first * blockSize; from < between && between < to { // the ends of two blocks
			return errors.Join(o.writeZeros(from, between), o.writeZeros(between, to))
		}
		return o.writeZeros(from, to)
	}
	if edges {
		if err := errors.Join(o.writeZeros(from, first*blockSize), o.writeZeros(end*blockSize, to)); err != nil {
			return err
		}
	}
	return o.clearBlocks(first, end)
}

// zeros is only read.
var zeros [blockSize]byte

// writeZeros zeroes a part of a block.
func (o *Overlay) writeZeros(from, to int64) error {
	if from >= to {
		return nil
	}
	if s, _, err := o.m.run(from/blockSize, 1); s == format.Zero || err != nil {
		return err
	}
	return o.writePiece(zeros[:to-from], from)
}

// clearBlocks gives whole blocks the state Zero, then releases their space. A
// crash in between or before the next flush leaves a block that is said to be
// in the file with its old content or zeros there, and both may be.
func (o *Overlay) clearBlocks(first, end int64) error {
	o.locks.lock(first, end-1)
	defer o.locks.unlock(first, end-1)
	for first < end {
		s, n, err := o.m.run(first, end-first)
		if err == nil && s != format.Zero {
			err = o.m.set(first, n, format.Zero)
		}
		if err != nil {
			return err
		}
		if s == format.Data {
			o.release(first, n)
		}
		first += n
	}
	return nil
}

// release gives space back where the file system can. A failure only keeps the
// space: nothing reads it.
func (o *Overlay) release(first, n int64) {
	if o.noPunch.Load() {
		return
	}
	if err := o.file.Punch(o.data+first*blockSize, n*blockSize); errors.Is(err, errors.ErrUnsupported) {
		o.noPunch.Store(true)
	}
}
