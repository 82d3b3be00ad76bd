package fidx

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// blockSize is how much of the table is read at a time, in bytes.
const blockSize = 64 << 10

// Index reads an index through an [io.ReaderAt]. It holds only the header, so
// its memory does not depend on the image size, and it is safe for concurrent
// use if the reader is.
type Index struct {
	Header
	r io.ReaderAt
}

// Open reads the header of an index of fileSize bytes and checks that the file
// has exactly the length the header asks for. It keeps r.
func Open(r io.ReaderAt, fileSize int64) (*Index, error) {
	if fileSize < HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, fileSize, HeaderSize)
	}
	page := make([]byte, HeaderSize)
	if err := readFull(r, page, 0); err != nil {
		return nil, fmt.Errorf("read index header: %w", err)
	}
	h, err := ParseHeader(page)
	if err != nil {
		return nil, err
	}
	if want := h.FileSize(); fileSize != want {
		return nil, fmt.Errorf("%w: unexpected file size %d, want %d for %d chunks", ErrFormat, fileSize, want, h.Count())
	}
	return &Index{h, r}, nil
}

// Digest reads the digest of chunk i.
func (x *Index) Digest(i int) (digest.Digest, error) {
	var d [1]digest.Digest
	err := x.Digests(i, d[:])
	return d[0], err
}

// Digests reads the digests of the chunks from first on into dst, all of it.
func (x *Index) Digests(first int, dst []digest.Digest) error {
	if first < 0 || first > x.Count() || len(dst) > x.Count()-first {
		return fmt.Errorf("read index: chunks [%d,+%d) of %d", first, len(dst), x.Count())
	}
	return x.blocks(first, len(dst), func(b []byte) error {
		for ; len(b) > 0; b = b[digest.Size:] {
			dst[0] = digest.Digest(b)
			dst = dst[1:]
		}
		return nil
	})
}

// Each calls f for every chunk in order, and stops at its first error, which
// it returns as it is.
func (x *Index) Each(f func(i int, d digest.Digest) error) error {
	i := 0
	return x.blocks(0, x.Count(), func(b []byte) error {
		for ; len(b) > 0; b = b[digest.Size:] {
			if err := f(i, digest.Digest(b)); err != nil {
				return err
			}
			i++
		}
		return nil
	})
}

// Sum computes the checksum over the table, to be compared with the manifest.
// It does not look at the one in the header.
func (x *Index) Sum() (digest.Digest, error) {
	h := sha256.New()
	err := x.blocks(0, x.Count(), func(b []byte) error {
		h.Write(b)
		return nil
	})
	if err != nil {
		return digest.Digest{}, err
	}
	return digest.Digest(h.Sum(nil)), nil
}

// WriteTo writes the whole file: the header, with its reserved bytes zero, and
// the table.
func (x *Index) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(x.Header.Append(nil))
	total := int64(n)
	if err != nil {
		return total, err
	}
	err = x.blocks(0, x.Count(), func(b []byte) error {
		n, err := w.Write(b)
		total += int64(n)
		return err
	})
	return total, err
}

// blocks hands n table entries from first on to f, many at a time.
func (x *Index) blocks(first, n int, f func([]byte) error) error {
	buf := make([]byte, min(blockSize, n*digest.Size))
	for n > 0 {
		k := min(n, blockSize/digest.Size)
		b := buf[:k*digest.Size]
		if err := readFull(x.r, b, SlotOffset(first)); err != nil {
			return fmt.Errorf("read index at chunk %d: %w", first, err)
		}
		if err := f(b); err != nil {
			return err
		}
		first, n = first+k, n-k
	}
	return nil
}

// readFull fills b. An end of file within b is unexpected: the caller was told
// a length that includes it.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	switch {
	case n == len(b):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}
