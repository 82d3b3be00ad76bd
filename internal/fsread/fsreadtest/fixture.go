package fsreadtest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// Mem is an image in memory.
type Mem []byte

// Size is that of the image.
func (m Mem) Size() int64 { return int64(len(m)) }

// ReadAt reads from the image.
func (m Mem) ReadAt(p []byte, off int64) (int, error) { return bytes.NewReader(m).ReadAt(p, off) }

// Unpack reads a file that gzip packed.
func Unpack(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(z)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}

// SparseBlock is how many bytes the blocks of a [Sparse] have.
const SparseBlock = 4096

// Sparse is an image of which only the blocks are kept that are not zeros.
type Sparse struct {
	Bytes  int64
	Blocks map[int64][]byte
}

// LoadSparse reads an image: its size, then blocks, each behind its number, 8 bytes
// big-endian, all of it packed by gzip.
func LoadSparse(t testing.TB, path string) Sparse {
	t.Helper()
	b := Unpack(t, path)
	s := Sparse{Bytes: int64(binary.BigEndian.Uint64(b)), Blocks: map[int64][]byte{}}
	for b = b[8:]; len(b) > 0; b = b[8+SparseBlock:] {
		s.Blocks[int64(binary.BigEndian.Uint64(b))] = b[8 : 8+SparseBlock]
	}
	return s
}

// SaveSparse makes a file that [LoadSparse] reads of an image whose size is a multiple of
// that of blocks.
func SaveSparse(t testing.TB, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = z.Write(binary.BigEndian.AppendUint64(nil, uint64(st.Size())))
	}
	b := make([]byte, SparseBlock)
	for n := range st.Size() / SparseBlock {
		if err == nil {
			_, err = f.ReadAt(b, n*SparseBlock)
		}
		if err == nil && len(bytes.Trim(b, "\x00")) > 0 {
			_, err = z.Write(append(binary.BigEndian.AppendUint64(nil, uint64(n)), b...))
		}
	}
	if err == nil {
		err = errors.Join(z.Close(), os.WriteFile(to, packed.Bytes(), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Size is that of the image.
func (s Sparse) Size() int64 { return s.Bytes }

// ReadAt reads from the image.
func (s Sparse) ReadAt(p []byte, off int64) (n int, err error) {
	return image.ReadWithin(p, off, s.Bytes, func(p []byte, off int64) (int, error) {
		for n := 0; n < len(p); {
			at := off + int64(n)
			part := p[n:min(int64(len(p)), int64(n)+SparseBlock-at%SparseBlock)]
			if b := s.Blocks[at/SparseBlock]; b != nil {
				copy(part, b[at%SparseBlock:])
			} else {
				clear(part)
			}
			n += len(part)
		}
		return len(p), nil
	})
}
