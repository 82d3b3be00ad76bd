package xfs

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
		part := p[n:min(int64(len(p)), int64(n)+4096-at%4096, s.size-off)]
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
// loop or a broken contract. Version 4 has no checksums that would see it.
func FuzzOpen(f *testing.F) {
	for i := range uint64(8) {
		f.Add(i, uint16(1<<i), i%2 == 0)
	}
	clean, dirty := load(f, "version4.gz"), load(f, "version5-log.gz")
	f.Fuzz(func(t *testing.T, seed uint64, flips uint16, log bool) {
		img := clean
		if log {
			img = dirty
		}
		img.blocks = maps.Clone(img.blocks)
		used := slices.Sorted(maps.Keys(img.blocks))
		r := rand.New(rand.NewPCG(seed, 0))
		for range flips {
			n := used[r.IntN(len(used))]
			b := bytes.Clone(img.blocks[n])
			b[r.IntN(len(b))] = byte(r.Uint32() >> (8 * r.IntN(4)))
			img.blocks[n] = b
		}
		if fs, err := Open(img, Options{}); err == nil {
			fsreadtest.Exhaust(t, fs, fsreadtest.Budget{Files: 400, Bytes: 64 << 10})
		}
	})
}

// Whatever a record of the log holds, applying it ends, and what is then read does.
func FuzzReplay(f *testing.F) {
	img := load(f, "version5-log.gz")
	fs, err := Open(img, Options{IgnoreLog: true})
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
		fs, err := Open(img, Options{IgnoreLog: true})
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
