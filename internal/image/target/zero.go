package target

import (
	"errors"
	"os"
	"sync/atomic"
)

// zeroer makes ranges zero in the cheapest way that the target has. A way that
// is refused once as unsupported is not tried again.
type zeroer struct {
	punch func(f *os.File, off, n int64) error // releases space; nil: cannot
	write func(f *os.File, off, n int64) error // lets the kernel write; nil: cannot
	block int64                                // punch and write need multiples of this

	noPunch, noWrite atomic.Bool
}

func (z *zeroer) zero(f *os.File, off, n int64) error {
	first := (off + z.block - 1) / z.block * z.block
	last := (off + n) / z.block * z.block
	if first >= last {
		return writeZeros(f, off, n)
	}
	if err := writeZeros(f, off, first-off); err != nil {
		return err
	}
	if err := z.blocks(f, first, last-first); err != nil {
		return err
	}
	return writeZeros(f, last, off+n-last)
}

func (z *zeroer) blocks(f *os.File, off, n int64) error {
	for _, way := range []struct {
		call func(f *os.File, off, n int64) error
		off  *atomic.Bool
	}{{z.punch, &z.noPunch}, {z.write, &z.noWrite}} {
		if way.call == nil || way.off.Load() {
			continue
		}
		err := way.call(f, off, n)
		if err == nil {
			return nil
		}
		// Another error may be the offload's alone. Writing finds out.
		if errors.Is(err, errors.ErrUnsupported) {
			way.off.Store(true)
		}
	}
	return writeZeros(f, off, n)
}

// zeros is never written to.
var zeros [1 << 20]byte

func writeZeros(f *os.File, off, n int64) error {
	for n > 0 {
		k, err := f.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off += int64(k)
		n -= int64(k)
	}
	return nil
}
