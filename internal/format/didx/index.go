package didx

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// perBlock is how many entries are read at a time.
const perBlock = (64 << 10) / EntrySize

// Index reads an index through an [io.ReaderAt]. It holds only the header, so
// its memory does not depend on the archive, and it is safe for concurrent use
// if the reader is.
type Index struct {
	Header
	r     io.ReaderAt
	count int
	size  int64
}

// Open reads the header and the last entry of an index of fileSize bytes. It
// keeps r.
func Open(r io.ReaderAt, fileSize int64) (*Index, error) {
	body := fileSize - HeaderSize
	switch {
	case fileSize < HeaderSize:
		return nil, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, fileSize, HeaderSize)
	case body%EntrySize != 0:
		return nil, fmt.Errorf("%w: unexpected file size %d: %d bytes are behind the last entry", ErrFormat, fileSize, body%EntrySize)
	case body == 0:
		return nil, fmt.Errorf("%w: no entries", ErrFormat)
	case body/EntrySize > math.MaxInt:
		return nil, fmt.Errorf("%w: %d entries are too many", ErrFormat, body/EntrySize)
	}
	page := make([]byte, HeaderSize)
	if err := readFull(r, page, 0); err != nil {
		return nil, fmt.Errorf("read index header: %w", err)
	}
	h, err := ParseHeader(page)
	if err != nil {
		return nil, err
	}
	x := &Index{Header: h, r: r, count: int(body / EntrySize)}
	last, err := x.Entry(x.count - 1)
	if err != nil {
		return nil, err
	}
	if last.End > math.MaxInt64 || last.End < uint64(x.count) {
		return nil, fmt.Errorf("%w: %d chunks cannot end at %d", ErrFormat, x.count, last.End)
	}
	x.size = int64(last.End)
	return x, nil
}

// Count returns the number of chunks, at least one.
func (x *Index) Count() int { return x.count }

// Size returns the size of the archive in bytes.
func (x *Index) Size() int64 { return x.size }

// FileSize returns the length of the file in bytes.
func (x *Index) FileSize() int64 { return EntryOffset(x.count) }

// Entry reads the entry of chunk i as it is in the file.
func (x *Index) Entry(i int) (Entry, error) {
	var e [1]Entry
	err := x.Entries(i, e[:])
	return e[0], err
}

// Entries reads the entries of the chunks from first on into dst, all of it,
// as they are in the file.
func (x *Index) Entries(first int, dst []Entry) error {
	if first < 0 || first > x.count || len(dst) > x.count-first {
		return fmt.Errorf("read index: chunks [%d,+%d) of %d", first, len(dst), x.count)
	}
	return x.blocks(first, len(dst), func(b []byte) error {
		for ; len(b) > 0; b = b[EntrySize:] {
			dst[0] = parseEntry(b)
			dst = dst[1:]
		}
		return nil
	})
}

// Bounds reads the bytes [start, end) of the archive that chunk i covers.
func (x *Index) Bounds(i int) (start, end int64, err error) {
	var e [2]Entry // of the chunk before, if there is one, and of chunk i
	read := e[:]
	if i <= 0 {
		read = e[1:]
	}
	if err := x.Entries(i+1-len(read), read); err != nil {
		return 0, 0, err
	}
	if err := x.grows(i, e[0].End, e[1].End); err != nil {
		return 0, 0, err
	}
	return int64(e[0].End), int64(e[1].End), nil
}

// Find searches the chunk that holds the byte at off, and the offset of that
// byte in the chunk. ok is false outside the archive.
func (x *Index) Find(off int64) (i int, rel int64, ok bool, err error) {
	if off < 0 || off >= x.size {
		return 0, 0, false, nil
	}
	lo, hi := 0, x.count-1 // the chunk is in [lo, hi]
	for lo < hi {
		mid := lo + (hi-lo)/2
		e, err := x.Entry(mid)
		if err != nil {
			return 0, 0, false, err
		}
		if e.End > uint64(off) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	start, end, err := x.Bounds(lo)
	if err != nil {
		return 0, 0, false, err
	}
	if off < start || off >= end {
		return 0, 0, false, fmt.Errorf("%w: ends are out of order near chunk %d", ErrFormat, lo)
	}
	return lo, off - start, true, nil
}

// Each calls f for every chunk in order, and stops at its first error, which
// it returns as it is. It checks that ends grow.
func (x *Index) Each(f func(i int, start, end int64, d digest.Digest) error) error {
	i, from := 0, uint64(0)
	return x.blocks(0, x.count, func(b []byte) error {
		for ; len(b) > 0; b = b[EntrySize:] {
			e := parseEntry(b)
			if err := x.grows(i, from, e.End); err != nil {
				return err
			}
			if err := f(i, int64(from), int64(e.End), e.Digest); err != nil {
				return err
			}
			i, from = i+1, e.End
		}
		return nil
	})
}

// Validate checks that ends grow, over the whole table.
func (x *Index) Validate() error {
	return x.Each(func(int, int64, int64, digest.Digest) error { return nil })
}

// Sum computes the checksum over the table, to be compared with the manifest,
// and checks that ends grow. It does not look at the checksum in the header.
func (x *Index) Sum() (digest.Digest, error) {
	h := sha256.New()
	var buf [EntrySize]byte
	err := x.Each(func(_ int, _, end int64, d digest.Digest) error {
		h.Write(Entry{uint64(end), d}.Append(buf[:0]))
		return nil
	})
	if err != nil {
		return digest.Digest{}, err
	}
	return digest.Digest(h.Sum(nil)), nil
}

// EntryOffset returns where in the file the entry of chunk i lies.
func EntryOffset(i int) int64 { return HeaderSize + EntrySize*int64(i) }

func (x *Index) grows(i int, from, to uint64) error {
	if from >= to || to > uint64(x.size) {
		return fmt.Errorf("%w: chunk %d covers [%d,%d) of %d bytes", ErrFormat, i, from, to, x.size)
	}
	return nil
}

// WriteTo writes the whole file: the header, with its reserved bytes zero, and
// the table.
func (x *Index) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(x.Header.Append(nil))
	total := int64(n)
	if err != nil {
		return total, err
	}
	err = x.blocks(0, x.count, func(b []byte) error {
		n, err := w.Write(b)
		total += int64(n)
		return err
	})
	return total, err
}

// blocks hands n entries from first on to f, many at a time.
func (x *Index) blocks(first, n int, f func([]byte) error) error {
	buf := make([]byte, min(perBlock, n)*EntrySize)
	for n > 0 {
		k := min(n, perBlock)
		b := buf[:k*EntrySize]
		if err := readFull(x.r, b, EntryOffset(first)); err != nil {
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
