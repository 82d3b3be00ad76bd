package btrfs

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// sparse is an image of which only blocks of 4 KiB are kept that are not zeros.
type sparse struct {
	size   int64
	blocks map[int64][]byte
}

func (s sparse) Size() int64 { return s.size }

func (s sparse) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off+int64(n) < s.size {
		at := off + int64(n)
		part := p[n:min(int64(len(p)), int64(n)+4096-at%4096, int64(n)+s.size-at)]
		if b := s.blocks[at/4096]; b != nil {
			copy(part, b[at%4096:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// load reads an image from testdata: its size, then blocks, each behind its
// number, 8 bytes big-endian, all of it through gzip.
func load(t testing.TB, name string) sparse {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err == nil {
		b, err = io.ReadAll(z)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := sparse{size: int64(binary.BigEndian.Uint64(b)), blocks: map[int64][]byte{}}
	for b = b[8:]; len(b) > 0; b = b[8+4096:] {
		s.blocks[int64(binary.BigEndian.Uint64(b))] = b[8 : 8+4096]
	}
	return s
}

// A change of bytes anywhere may change what is read; it may not end in a panic, a
// loop or a broken contract. Blocks that are changed get a new checksum, so that
// it is not that which sees all: nodes have 4 KiB here.
func FuzzOpen(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i))
	}
	clean := load(f, "btrfs.gz")
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16) {
		img := clean
		img.blocks = maps.Clone(img.blocks)
		used := slices.Sorted(maps.Keys(img.blocks))
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			n := used[r.IntN(len(used))]
			b := bytes.Clone(img.blocks[n])
			b[r.IntN(len(b))] = byte(r.Uint32() >> (8 * r.IntN(4)))
			if string(b[32:48]) == string(clean.blocks[superAt/4096][32:48]) { // a node or superblock
				copy(b, sums(0)(b[32:]))
			}
			img.blocks[n] = b
		}
		if fs, err := Open(img); err == nil {
			fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 300, Bytes: 64 << 10})
		}
	})
}

// Whatever is decompressed, it ends, and in the room that it has.
func FuzzLZO(f *testing.F) {
	f.Add([]byte{21, 'a', 'b', 'c', 'd', 17, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		out := make([]byte, 4096)
		if n, ok := lzo1x(out, b); ok && (n < 0 || n > len(out)) {
			t.Errorf("%d bytes", n)
		}
		unlzo(b, 8192, 4096)
	})
}
