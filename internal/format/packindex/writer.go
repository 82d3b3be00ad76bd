package packindex

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Writer writes an index. It holds a block and the head, 3.2 bytes for each chunk.
type Writer struct {
	w     io.Writer
	block []byte
	firsts,
	marks []byte
	last digest.Digest
	n    int64
	err  error
}

// NewWriter begins an index.
func NewWriter(w io.Writer) *Writer {
	return &Writer{w: w, block: make([]byte, 0, BlockSize)}
}

// Add says where a chunk lies. Digests must ascend.
func (w *Writer) Add(e Entry) error {
	switch {
	case w.err != nil:
		return w.err
	case w.n > 0 && bytes.Compare(e.Digest[:], w.last[:]) <= 0:
		return fmt.Errorf("index of packs: %w: %s behind %s", ErrOrder, e.Digest, w.last)
	case w.n == MaxChunks:
		return fmt.Errorf("index of packs: %w: it has %d chunks", ErrFull, w.n)
	}
	if err := e.Check(); err != nil {
		return err
	}
	if len(w.block) == 0 {
		w.firsts = append(w.firsts, e.Digest[:]...)
	}
	w.block = e.Append(w.block)
	w.marks = append(w.marks, mark(e.Digest)...)
	w.last = e.Digest
	w.n++
	if len(w.block) == PerBlock*EntrySize {
		w.flush()
	}
	return w.err
}

func mark(d digest.Digest) []byte { return d[digest.Size-markSize:] }

func (w *Writer) flush() {
	w.block = binary.LittleEndian.AppendUint32(w.block, crc32.Checksum(w.block, table()))
	_, w.err = w.w.Write(w.block)
	w.block = w.block[:0]
}

// Chunks is how many were added.
func (w *Writer) Chunks() int64 { return w.n }

// Close completes the index, which has at least one chunk, and returns its
// length and that of its head.
func (w *Writer) Close() (all, head int64, err error) {
	if w.n == 0 {
		return 0, 0, fmt.Errorf("%w: no chunks", ErrFormat)
	}
	if w.err == nil && len(w.block) > 0 {
		w.flush()
	}
	if w.err != nil {
		return 0, 0, w.err
	}
	b := append(w.firsts, w.marks...)
	b = binary.LittleEndian.AppendUint64(b, uint64(w.n))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, table()))
	if _, w.err = w.w.Write(append(b, magic...)); w.err != nil {
		return 0, 0, w.err
	}
	all, head = size(w.n)
	return all, head, nil
}
