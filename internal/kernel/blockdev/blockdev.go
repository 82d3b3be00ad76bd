// Package blockdev asks the kernel about block devices and makes it zero or
// discard ranges of them: a thin shell over ioctls, without policy.
//
// Sizes and offsets are bytes. On systems other than Linux every function
// returns an error wrapping [errors.ErrUnsupported]; so does a request that
// the device cannot serve.
//
// # Zeros
//
// A discarded range reads as anything: old data, zeros, or both in turn. What
// a device says about it is not reliable, so [Discard] is for giving space
// back only. [PunchZeros] is the call that releases space and still promises
// zeros; [ZeroOut] promises zeros and may write them.
//
// # Source
//
// Linux: include/uapi/linux/fs.h, block/ioctl.c, block/fops.c (blkdev_fallocate).
package blockdev

import (
	"fmt"
	"os"
)

// Geometry is what the kernel knows about a block device.
type Geometry struct {
	Size          int64 // bytes
	LogicalBlock  int   // bytes; the unit that offsets of ioctls are aligned to
	PhysicalBlock int   // bytes; the unit that the medium writes in one piece
	ReadOnly      bool
}

// Inspect returns the geometry of an open block device.
func Inspect(f *os.File) (Geometry, error) {
	g, err := inspect(f)
	if err != nil {
		return Geometry{}, fmt.Errorf("inspect block device %s: %w", f.Name(), err)
	}
	return g, nil
}

// PunchZeros makes [off, off+n) read as zeros and releases the space behind
// it. It never writes zeros itself: where the device cannot release space with
// that promise, the error wraps [errors.ErrUnsupported] and nothing changed.
// off and n are multiples of the logical block size.
func PunchZeros(f *os.File, off, n int64) error {
	return wrap("punch zeros into", f, off, n, punchZeros(f, off, n))
}

// ZeroOut makes [off, off+n) read as zeros; the kernel writes them where the
// device has no faster way. off and n are multiples of the logical block size.
func ZeroOut(f *os.File, off, n int64) error {
	return wrap("zero out", f, off, n, zeroOut(f, off, n))
}

// Discard tells the device that [off, off+n) is not needed. What reads
// return afterwards is undefined.
func Discard(f *os.File, off, n int64) error {
	return wrap("discard", f, off, n, discard(f, off, n))
}

// DropCache makes the kernel forget what it has cached of a device, after writing
// what it has not written: a device on top of it, or another machine, may have changed
// the medium. It does what this process may: what others use can stay.
func DropCache(f *os.File) error {
	if err := dropCache(f); err != nil {
		return fmt.Errorf("drop the cache of %s: %w", f.Name(), err)
	}
	return nil
}

func wrap(what string, f *os.File, off, n int64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %d bytes at offset %d of %s: %w", what, n, off, f.Name(), err)
}
