//go:build !purego

package digest

import (
	"encoding/binary"
	"unsafe"
)

const blockSize = 64

// atOnce is how many blocks one call of the assembly takes: it cannot be
// interrupted, and the garbage collector should not wait for megabytes.
const atOnce = 1 << 10

type state [8]uint32

var initial = state{
	0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
}

// hasSHA says whether blocks2 may be called.
var hasSHA = detectSHA()

func detectSHA() bool {
	const ssse3, sse41, sha = 1 << 9, 1 << 19, 1 << 29
	last, _, _, _ := cpuid(0, 0)
	if last < 7 {
		return false
	}
	_, _, ecx, _ := cpuid(1, 0)
	_, ebx, _, _ := cpuid(7, 0)
	return ecx&ssse3 != 0 && ecx&sse41 != 0 && ebx&sha != 0
}

// blocks2 takes n blocks from p0 into h0, and n blocks from p1 into h1.
//
//go:noescape
func blocks2(h0, h1 *state, p0, p1 *byte, n int)

func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)

func of2(a, b, suffix []byte) (Digest, Digest) {
	if !hasSHA {
		return of1(a, suffix), of1(b, suffix)
	}
	ha, hb := initial, initial
	common := min(len(a), len(b)) / blockSize * blockSize
	absorb2(&ha, &hb, a[:common], b[:common])
	restA, restB := a[common:], b[common:]
	if len(a) != len(b) {
		restA, restB = absorb(&ha, restA), absorb(&hb, restB)
	}
	var tailA, tailB [2 * blockSize]byte
	na := pad(&tailA, restA, suffix, len(a))
	nb := pad(&tailB, restB, suffix, len(b))
	if na == nb {
		absorb2(&ha, &hb, tailA[:na], tailB[:nb])
	} else {
		absorb(&ha, tailA[:na])
		absorb(&hb, tailB[:nb])
	}
	return ha.digest(), hb.digest()
}

// absorb2 takes whole blocks of equal number.
func absorb2(ha, hb *state, a, b []byte) {
	for len(a) > 0 {
		n := min(len(a)/blockSize, atOnce)
		blocks2(ha, hb, unsafe.SliceData(a), unsafe.SliceData(b), n)
		a, b = a[n*blockSize:], b[n*blockSize:]
	}
}

// absorb takes the whole blocks of p and returns the rest. The second stream
// does the same work for nothing, which takes no longer than to be alone.
func absorb(h *state, p []byte) (rest []byte) {
	whole := len(p) / blockSize * blockSize
	idle := *h
	absorb2(h, &idle, p[:whole], p[:whole])
	return p[whole:]
}

// pad fills tail with the end of a message of n bytes and a suffix: what is
// left of it, the suffix, a one bit, zeros, and its length in bits. It returns
// how much of tail that takes, one block or two.
func pad(tail *[2 * blockSize]byte, rest, suffix []byte, n int) int {
	k := copy(tail[:], rest)
	k += copy(tail[k:], suffix)
	tail[k] = 0x80
	end := blockSize
	if k+1+8 > blockSize {
		end = 2 * blockSize
	}
	binary.BigEndian.PutUint64(tail[end-8:], 8*uint64(n+len(suffix)))
	return end
}

func (h *state) digest() (d Digest) {
	for i, w := range h {
		binary.BigEndian.PutUint32(d[4*i:], w)
	}
	return d
}
