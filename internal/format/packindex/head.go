package packindex

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Head is what must be in memory to search an index.
type Head struct {
	firsts []byte
	marks  []byte
	chunks int64
}

// ParseHead decodes the head, the last bytes of an index that has all of them. It
// keeps b.
func ParseHead(b []byte, all int64) (*Head, error) {
	if len(b) < footerSize {
		return nil, fmt.Errorf("%w: a head of %d bytes", ErrFormat, len(b))
	}
	footer := b[len(b)-footerSize:]
	if !bytes.Equal(footer[8+crcSize:], []byte(magic)) {
		return nil, fmt.Errorf("%w: it ends in %x", ErrFormat, footer[8+crcSize:])
	}
	n := binary.LittleEndian.Uint64(footer)
	if n == 0 || n > MaxChunks {
		return nil, fmt.Errorf("%w: %d chunks", ErrFormat, n)
	}
	if wantAll, wantHead := size(int64(n)); wantAll != all || wantHead != int64(len(b)) {
		return nil, fmt.Errorf("%w: %d chunks in %d bytes with a head of %d", ErrFormat, n, all, len(b))
	}
	stored, sum := binary.LittleEndian.Uint32(footer[8:]), crc32.Checksum(b[:len(b)-footerSize+8], table())
	if stored != sum {
		return nil, fmt.Errorf("%w: its head has checksum %08x, it says %08x", ErrFormat, sum, stored)
	}
	firsts := (int(n) + PerBlock - 1) / PerBlock * digest.Size
	return &Head{firsts: b[:firsts:firsts], marks: b[firsts : len(b)-footerSize], chunks: int64(n)}, nil
}

// Chunks is how many the index has.
func (h *Head) Chunks() int64 { return h.chunks }

// Blocks is how many the index has.
func (h *Head) Blocks() int { return len(h.firsts) / digest.Size }

// Size is how many bytes of memory it holds.
func (h *Head) Size() int { return len(h.firsts) + len(h.marks) }

// Find says which block a chunk is in if it is there. ok is false when it
// is not; of chunks that are not there it is true for one in 65,536.
func (h *Head) Find(d digest.Digest) (block int, ok bool) {
	block = sort.Search(h.Blocks(), func(i int) bool {
		return bytes.Compare(h.firsts[i*digest.Size:][:digest.Size], d[:]) > 0
	}) - 1
	if block < 0 {
		return 0, false
	}
	marks := h.marks[block*PerBlock*markSize : min((block+1)*PerBlock*markSize, len(h.marks))]
	a, b, c := d[digest.Size-3], d[digest.Size-2], d[digest.Size-1]
	for ; len(marks) > 0; marks = marks[markSize:] {
		if marks[2] == c && marks[1] == b && marks[0] == a {
			return block, true
		}
	}
	return 0, false
}

// Range says where in the index a block lies.
func (h *Head) Range(block int) (off, n int64) {
	first := int64(block) * PerBlock
	return int64(block) * BlockSize, min(PerBlock, h.chunks-first)*EntrySize + crcSize
}
