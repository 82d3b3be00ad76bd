package btrfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread/fsreadtest"
)

// A change of bytes anywhere may change what is read; it may not end in a panic, a
// loop or a broken contract. Blocks that are changed get a new checksum, so that
// it is not that which sees all: nodes have 4 KiB here.
func FuzzOpen(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i), i%2 == 0)
	}
	without, with := fsreadtest.LoadSparse(f, filepath.Join("testdata", "btrfs.gz")), fsreadtest.LoadSparse(f, filepath.Join("testdata", "log.gz"))
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16, log bool) {
		clean := without
		if log {
			clean = with
		}
		img := clean
		img.Blocks = maps.Clone(img.Blocks)
		used := slices.Sorted(maps.Keys(img.Blocks))
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			n := used[r.IntN(len(used))]
			b := bytes.Clone(img.Blocks[n])
			b[r.IntN(len(b))] = byte(r.Uint32() >> (8 * r.IntN(4)))
			if string(b[32:48]) == string(clean.Blocks[superAt/4096][32:48]) { // a node or superblock
				copy(b, sums(0)(b[32:]))
			}
			img.Blocks[n] = b
		}
		if fs, err := Open(img); err == nil {
			fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 300, Bytes: 64 << 10})
		}
	})
}

// Whatever is decompressed, it ends, and in the room that it has.
func FuzzLZO(f *testing.F) {
	f.Add([]byte{12, 0, 0, 0, 8, 0, 0, 0, 21, 'a', 'b', 'c', 'd', 17, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, ok := unlzo(b, 8192, 4096); ok && len(out) != 8192 {
			t.Errorf("%d bytes", len(out))
		}
	})
}
