package archive_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

const benchChunk = 4 << 20

// benchSnapshot is half text, half noise, in chunks of the usual size.
func benchSnapshot(b *testing.B, slots int) *repotest.Snapshot {
	b.Helper()
	img := make([]byte, slots*benchChunk)
	noise := rand.NewChaCha8([32]byte{1})
	for off := 0; off < len(img); off += 8192 {
		noise.Read(img[off : off+4096])
		for k := off + 4096; k < off+8192; k++ {
			img[k] = "the disk of a machine, and more of it\n"[(k*k/97)%38]
		}
	}
	m := repotest.New()
	name := names.Snapshot{Group: names.Group{Type: names.VM, ID: "1"}, Time: 1}
	j := backup.Job{Snapshot: name, Sources: []backup.Source{{Name: disk, Image: source{bytes.NewReader(img)}}}}
	j.Options.ChunkSize = benchChunk
	if _, err := backup.Run(b.Context(), m, j); err != nil {
		b.Fatal(err)
	}
	s, err := m.Open(b.Context(), name)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkWarm(b *testing.B) {
	s := benchSnapshot(b, 8)
	img := open(b, s, nil, archive.Options{})
	defer img.Close()
	for slot := range 8 {
		scatteredBench(b, img, slot)
	}
	for _, size := range []int{512, 4096, 65536} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			var seed atomic.Uint64
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				rnd := rand.New(rand.NewPCG(seed.Add(1), 0))
				p := make([]byte, size)
				for pb.Next() {
					if !img.TryReadAt(p, rnd.Int64N(8*benchChunk/65536)*65536) {
						b.Error("not warm")
						return
					}
				}
			})
		})
	}
}

func scatteredBench(b *testing.B, img *archive.Image, slot int) {
	if _, err := img.ReadAt(make([]byte, 4096), int64(slot)*benchChunk+int64(slot)*8192); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCold reads 4 KiB of chunks that are not in the cache; alone is what
// the chunks cost without an image.
func BenchmarkCold(b *testing.B) {
	const slots = 40 // twice what the cache holds
	s := benchSnapshot(b, slots)
	b.Run("image", func(b *testing.B) {
		img := open(b, s, nil, archive.Options{})
		defer img.Close()
		b.SetBytes(benchChunk)
		b.ReportAllocs()
		slot := 0
		for b.Loop() {
			slot = (slot + 23) % slots
			scatteredBench(b, img, slot)
		}
	})
	b.Run("alone", func(b *testing.B) {
		x, err := fetch.Open(s, disk, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer x.Close()
		r, err := fetch.NewReader(s, x)
		if err != nil {
			b.Fatal(err)
		}
		defer r.Close()
		p := make([]byte, benchChunk+fetch.Slack)
		b.SetBytes(benchChunk)
		b.ReportAllocs()
		slot := 0
		for b.Loop() {
			slot = (slot + 23) % slots
			d, err := x.Digest(slot)
			if err != nil {
				b.Fatal(err)
			}
			if err := r.Read(b.Context(), d, p[:benchChunk]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkSequential(b *testing.B) {
	const slots = 40
	s := benchSnapshot(b, slots)
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p := make([]byte, size)
			b.SetBytes(slots * benchChunk)
			b.ReportAllocs()
			for b.Loop() {
				img := open(b, s, nil, archive.Options{})
				for off := int64(0); off < img.Size(); off += int64(size) {
					if _, err := img.ReadAt(p, off); err != nil {
						b.Fatal(err)
					}
				}
				if err := img.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
