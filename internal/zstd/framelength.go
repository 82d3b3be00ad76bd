package zstd

import "encoding/binary"

// FrameLength is how many bytes the frame takes that b begins with, whatever
// follows it. It reads the headers of its blocks; see RFC 8878, 3.1.1.
func FrameLength(b []byte) (n int, ok bool) {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != frameMagic {
		return 0, false
	}
	head := b[4]
	n = 5 + []int{0, 1, 2, 4}[head&3]
	single := head>>5&1 != 0
	if !single {
		n++ // the size of the window
	}
	switch head >> 6 { // the size of the content
	case 0:
		if single {
			n++
		}
	default:
		n += 1 << (head >> 6)
	}
	for {
		if n+3 > len(b) {
			return 0, false
		}
		h := int(b[n]) | int(b[n+1])<<8 | int(b[n+2])<<16
		size := h >> 3
		if h>>1&3 == 1 { // one byte, repeated
			size = 1
		}
		if n += 3 + size; n > len(b) {
			return 0, false
		}
		if h&1 != 0 {
			break
		}
	}
	if head>>2&1 != 0 {
		n += 4 // checksum
	}
	return n, n <= len(b)
}
