package zstd

import "encoding/binary"

const frameMagic = 0xFD2FB528

// MaxPlain returns how many bytes n bytes of frames can hold at most: a block
// takes four bytes to repeat one. A frame that claims more lies.
func MaxPlain(n int) uint64 { return (uint64(n)/4 + 1) * maxBlock }

// ContentSize returns how many plain bytes the first frame claims to hold. ok
// is false when it does not say. It is a hint and may be a lie.
func ContentSize(src []byte) (n uint64, ok bool) {
	le := binary.LittleEndian
	if len(src) < 5 || le.Uint32(src) != frameMagic {
		return 0, false
	}
	descriptor, rest := src[4], src[5:]
	single := descriptor&(1<<5) != 0
	skip := [4]int{0, 1, 2, 4}[descriptor&3] // dictionary id
	if !single {
		skip++ // window
	}
	if len(rest) < skip {
		return 0, false
	}
	rest = rest[skip:]
	switch size := descriptor >> 6; {
	case size == 0 && single && len(rest) >= 1:
		return uint64(rest[0]), true
	case size == 1 && len(rest) >= 2:
		return uint64(le.Uint16(rest)) + 256, true
	case size == 2 && len(rest) >= 4:
		return uint64(le.Uint32(rest)), true
	case size == 3 && len(rest) >= 8:
		return le.Uint64(rest), true
	}
	return 0, false
}
