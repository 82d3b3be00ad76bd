// Package overlay reads and writes the header and the map pages of an overlay
// file: what was written over a read-only disk image, and where.
//
// # Layout
//
// Integers are little-endian, blocks and pages have 4096 bytes.
//
//	0            header
//	4096         map: two slots for page 0, two for page 1, ...
//	data offset  block i of the image at data offset + i * 4096
//
// The file is sparse. It is as long as the data offset, the first multiple of
// 64 KiB behind the map, plus the image's size rounded up to whole blocks.
//
// # Header
//
//	offset  size  field
//	0       8     magic cd ee 1b ab e1 81 30 45
//	8       4     CRC-32C of the bytes 12 to 4095
//	12      4     block size, 4096
//	16      8     size of the image in bytes
//	24      8     data offset
//	32      8     time of creation, signed, seconds since 1970-01-01 UTC
//	40      32    checksum of the index of the image below
//	72            four texts, each 2 bytes of length and then UTF-8: repository,
//	              namespace, snapshot, archive
//	              zero
//
// It is written once. The checksum of the index is what ties an overlay to the
// image below; the texts tell people and programs where that was.
//
// # Map page
//
//	offset  size  field
//	0       8     magic b4 ba 9d 9a 1a ba b7 f9
//	8       4     CRC-32C of the bytes 12 to 4095
//	12      4     zero
//	16      8     sequence, from 1
//	24      8     number of the page
//	32      4064  state of 16256 blocks, two bits each, the lowest bits first
//
// A state is 0 when the block is that of the image below, 1 when it is in the
// data area, 2 when it is all zero; 3 is illegal, and so is any other than 0
// behind the image's end. A page with an odd sequence is in the second slot,
// with an even one in the first: each version is written over the one before
// the last, which stays whole until the new one is durable. The valid page with
// the higher sequence holds. A slot that was never written is all zero.
//
// # Damage
//
// One invalid slot is what a power cut leaves behind, and the other holds, even
// if that one was never written. Two invalid slots are damage. There is no
// checksum over data: a block is written in place, as on the disk that it
// stands for.
//
// # Errors
//
// ParseHeader wraps [ErrFormat] for bytes that are no overlay, ChoosePage wraps
// [ErrDamaged]. Neither does any I/O.
package overlay

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/holdfast-backup/holdfast/internal/zero"
)

// Sizes in bytes.
const (
	BlockSize  = 4096
	HeaderSize = 4096
	PageSize   = 4096

	// MaxSize bounds the image, and with it the map.
	MaxSize = 1 << 50

	dataAlign = 64 << 10
)

// Errors that callers tell apart.
var (
	ErrFormat  = errors.New("not a valid overlay file")
	ErrDamaged = errors.New("the overlay's map is damaged")
)

// Blocks is how many blocks an image of size bytes has.
func Blocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// Pages is how many map pages such an image has.
func Pages(size int64) int64 { return (Blocks(size) + PageBlocks - 1) / PageBlocks }

// SlotOffset is where a slot (0 or 1) of a map page begins in the file.
func SlotOffset(page int64, slot int) int64 {
	return HeaderSize + (2*page+int64(slot))*PageSize
}

// DataOffset is where the first block of an image of size bytes lies.
func DataOffset(size int64) int64 {
	return (SlotOffset(Pages(size), 0) + dataAlign - 1) / dataAlign * dataAlign
}

// FileSize is the length of the file.
func FileSize(size int64) int64 { return DataOffset(size) + Blocks(size)*BlockSize }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const (
	offCRC = 8
	offSum = 12 // where the bytes begin that the CRC covers
)

func seal(b []byte) {
	binary.LittleEndian.PutUint32(b[offCRC:], crc32.Checksum(b[offSum:], castagnoli))
}

func sealed(b []byte) bool {
	return binary.LittleEndian.Uint32(b[offCRC:]) == crc32.Checksum(b[offSum:], castagnoli)
}

func allZero(b []byte) bool { return zero.Is(b) }
