package tape

import (
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
)

// RingBlocks is how many blocks lie between a stream and its drive.
const RingBlocks = 64

// ring is the memory for blocks between a stream and its drive, page-aligned
// and outside the heap, so that a transport can give it to the kernel.
type ring struct {
	mem  *pagebuf.Buffer
	free chan []byte // blocks that nobody uses
}

func newRing() (ring, error) {
	mem, err := pagebuf.New(RingBlocks * BlockSize)
	if err != nil {
		return ring{}, err
	}
	r := ring{mem, make(chan []byte, RingBlocks)}
	for b := mem.Bytes(); len(b) > 0; b = b[BlockSize:] {
		r.free <- b[:BlockSize:BlockSize]
	}
	return r, nil
}

// room is the part of a block that takes payload.
func room(block []byte) []byte { return block[tapefile.BlockHeaderSize:] }
