package tapefile

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes in bytes.
const (
	BlockSize       = 256 << 10
	BlockHeaderSize = 16
	PayloadSize     = BlockSize - BlockHeaderSize // of a full block
)

// The kinds of bad bytes that callers tell apart.
var (
	ErrMagic  = errors.New("not a block of a backup tape")
	ErrFormat = errors.New("damaged or unknown data of a backup tape")
)

// blockMagic is the start of SHA-256("Proxmox Tape Block Header v1.0").
var blockMagic = [8]byte{0xdc, 0xbd, 0xaf, 0xca, 0xeb, 0xa0, 0xa5, 0x28}

const (
	offFlags = 8
	offSize  = 9 // 24 bits
	offSeq   = 12

	flagLast       = 1
	flagIncomplete = 2
)

// BlockHeader is the start of every block.
type BlockHeader struct {
	Size       int    // of the payload, 0 to PayloadSize
	Seq        uint32 // number in the file, from 0
	Last       bool   // of its file
	Incomplete bool   // its writer gave the file up; only in the last block
}

// ParseBlock reads the header of a block, which must have BlockSize bytes. The
// payload is b[BlockHeaderSize:][:Size].
func ParseBlock(b []byte) (BlockHeader, error) {
	if len(b) != BlockSize {
		return BlockHeader{}, fmt.Errorf("%w: a block of %d bytes, not %d", ErrMagic, len(b), BlockSize)
	}
	if [8]byte(b) != blockMagic {
		return BlockHeader{}, fmt.Errorf("%w: it begins with %x", ErrMagic, b[:8])
	}
	flags := b[offFlags]
	h := BlockHeader{
		Size: int(b[offSize]) | int(b[offSize+1])<<8 | int(b[offSize+2])<<16,
		Seq:  binary.LittleEndian.Uint32(b[offSeq:]),
		Last: flags&flagLast != 0,
	}
	h.Incomplete = h.Last && flags&flagIncomplete != 0
	switch {
	case h.Size > PayloadSize:
		return BlockHeader{}, fmt.Errorf("%w: block %d holds %d bytes, there is room for %d", ErrFormat, h.Seq, h.Size, PayloadSize)
	case h.Size == 0 && !h.Last:
		return BlockHeader{}, fmt.Errorf("%w: block %d is empty and not the last", ErrFormat, h.Seq)
	}
	return h, nil
}

// Put writes the header at the start of b, a block whose payload is in place or
// will be. It clears what lies behind the payload, so that nothing old reaches
// the tape.
func (h BlockHeader) Put(b []byte) {
	if len(b) != BlockSize || h.Size < 0 || h.Size > PayloadSize {
		panic(fmt.Sprintf("tapefile: %d bytes in a block of %d", h.Size, len(b)))
	}
	copy(b, blockMagic[:])
	b[offFlags] = 0
	if h.Last {
		b[offFlags] |= flagLast
		if h.Incomplete {
			b[offFlags] |= flagIncomplete
		}
	}
	b[offSize], b[offSize+1], b[offSize+2] = byte(h.Size), byte(h.Size>>8), byte(h.Size>>16)
	binary.LittleEndian.PutUint32(b[offSeq:], h.Seq)
	clear(b[BlockHeaderSize+h.Size:])
}
