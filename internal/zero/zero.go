// Package zero finds runs of zero bytes at the speed of memory.
//
// A disk image is full of zeros, and each one that is recognised early is not
// hashed, compressed, stored or written. The comparison is the runtime's
// vectorised one, against a block that stays in the first-level cache.
package zero

import "bytes"

// BlockSize is the unit in which runs are found, the page and sector size of
// nearly everything.
const BlockSize = 4096

// block is read only.
var block [2 * BlockSize]byte

// Is reports whether all bytes of b are zero.
func Is(b []byte) bool {
	for len(b) > len(block) {
		if !bytes.Equal(b[:len(block)], block[:]) {
			return false
		}
		b = b[len(block):]
	}
	return bytes.Equal(b, block[:len(b)])
}

// Run returns the length of the run at the start of b, in whole blocks of which
// the last may be short, and whether it is zero. Zero runs below shortest bytes
// are not worth a split: they count as part of what surrounds them, except
// that b as a whole may be zero at any length.
func Run(b []byte, shortest int) (n int, isZero bool) {
	if n = zeros(b); n >= shortest || n == len(b) {
		return n, true
	}
	for n < len(b) {
		n += data(b[n:])
		z := zeros(b[n:])
		if z >= shortest {
			break
		}
		n += z
	}
	return n, false
}

// zeros is the length of the zero blocks at the start of b.
func zeros(b []byte) int {
	n := 0
	for n < len(b) {
		end := min(n+BlockSize, len(b))
		if !bytes.Equal(b[n:end], block[:end-n]) {
			break
		}
		n = end
	}
	return n
}

// data is the length of the other blocks at the start of b.
func data(b []byte) int {
	n := 0
	for n < len(b) {
		end := min(n+BlockSize, len(b))
		if bytes.Equal(b[n:end], block[:end-n]) {
			break
		}
		n = end
	}
	return n
}
