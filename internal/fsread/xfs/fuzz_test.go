package xfs

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
// loop or a broken contract. Version 4 has no checksums that would see it.
func FuzzOpen(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i), i%2 == 0)
	}
	clean, dirty := fsreadtest.LoadSparse(f, filepath.Join("testdata", "version4.gz")), fsreadtest.LoadSparse(f, filepath.Join("testdata", "version5-log.gz"))
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16, log bool) {
		img := clean
		if log {
			img = dirty
		}
		img.Blocks = maps.Clone(img.Blocks)
		used := slices.Sorted(maps.Keys(img.Blocks))
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			n := used[r.IntN(len(used))]
			b := bytes.Clone(img.Blocks[n])
			b[r.IntN(len(b))] = byte(r.Uint32() >> (8 * r.IntN(4)))
			img.Blocks[n] = b
		}
		if fs, err := Open(img); err == nil {
			fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 400, Bytes: 64 << 10})
		}
	})
}

// Whatever a record of the log holds, applying it ends, and what is then read does.
func FuzzReplay(f *testing.F) {
	img := fsreadtest.LoadSparse(f, filepath.Join("testdata", "version5-log.gz"))
	fs, err := open(img)
	if err != nil {
		f.Fatal(err)
	}
	at, err := fs.at(fs.logStart)
	if err != nil {
		f.Fatal(err)
	}
	r := &ring{fs: fs, at: at, size: int64(fs.logBlocks) << fs.blockLog / sector}
	last, err := r.last()
	if err != nil || last == nil {
		f.Fatalf("no record: %v", err)
	}
	n := 0
	err = r.each(last, func(l *logRecord) error {
		if n++; n%3 == 0 {
			f.Add(l.data, l.ops)
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, ops uint32) {
		fs, err := open(img)
		if err != nil {
			t.Fatal(err)
		}
		fs.newer = overlay{}
		p := &player{fs: fs, first: true, freed: map[freed]int{}, intents: map[intent]bool{}}
		for range 2 {
			p.open, p.pending = map[uint32]*transaction{}, 0
			if err := p.record(&logRecord{data: data, ops: min(ops, 1<<16)}); err != nil {
				return
			}
			p.first = false
		}
		fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 100, Bytes: 4 << 10})
	})
}
