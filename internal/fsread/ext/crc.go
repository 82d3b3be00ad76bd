package ext

import (
	"encoding/binary"
	"hash/crc32"
)

var (
	le = binary.LittleEndian
	be = binary.BigEndian

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// crc32c continues a CRC-32C, without the inversions at its ends.
func crc32c(seed uint32, b []byte) uint32 { return ^crc32.Update(^seed, castagnoli, b) }

// crc32cWord continues it with a little-endian number.
func crc32cWord(seed, n uint32) uint32 {
	var b [4]byte
	le.PutUint32(b[:], n)
	return crc32c(seed, b[:])
}

// crc32cWithout continues it with b, in which the n bytes at off, those of the
// checksum itself, count as zeros.
func crc32cWithout(seed uint32, b []byte, off, n int) uint32 {
	var zero [4]byte
	seed = crc32c(seed, b[:off])
	seed = crc32c(seed, zero[:n])
	return crc32c(seed, b[off+n:])
}

// crc16 continues the checksum of group descriptors of old: polynomial 0x8005,
// reflected.
func crc16(crc uint16, b []byte) uint16 {
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			if crc&1 != 0 {
				crc = crc>>1 ^ 0xa001
			} else {
				crc >>= 1
			}
		}
	}
	return crc
}

// crc32be continues a CRC-32 that takes the highest bit first, as journals of old
// have it.
func crc32be(crc uint32, b []byte) uint32 {
	for _, c := range b {
		crc = crc<<8 ^ highFirst[byte(crc>>24)^c]
	}
	return crc
}

var highFirst = func() (table [256]uint32) {
	for i := range table {
		crc := uint32(i) << 24
		for range 8 {
			crc = crc<<1 ^ 0x04c11db7*(crc>>31)
		}
		table[i] = crc
	}
	return table
}()
