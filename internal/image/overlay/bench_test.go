package overlay_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/image/overlay"
)

const benchSize = 256 << 20

// device is what both sides of a comparison can do.
type device interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
}

// sides is a plain file and an overlay over a file, both sparse.
func sides(b *testing.B) map[string]func(b *testing.B) device {
	raw := func(b *testing.B) *os.File {
		f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		if err := f.Truncate(benchSize); err != nil {
			b.Fatal(err)
		}
		return f
	}
	return map[string]func(b *testing.B) device{
		"file": func(b *testing.B) device { return raw(b) },
		"overlay": func(b *testing.B) device {
			img, err := image.NewFile(raw(b), image.FileOptions{})
			if err != nil {
				b.Fatal(err)
			}
			return fresh(b, img, overlay.Options{})
		},
	}
}

func run(b *testing.B, size int, prepare bool, op func(d device, p []byte, off int64) (int, error), next func(i int64) int64) {
	for name, open := range sides(b) {
		b.Run(name, func(b *testing.B) {
			d := open(b)
			p := make([]byte, 1<<20)
			for i := range p {
				p[i] = byte(i * 7)
			}
			if prepare {
				for off := int64(0); off < benchSize; off += int64(len(p)) {
					if _, err := d.WriteAt(p, off); err != nil {
						b.Fatal(err)
					}
				}
			}
			p = p[:size]
			b.SetBytes(int64(size))
			b.ReportAllocs()
			i := int64(0)
			for b.Loop() {
				if _, err := op(d, p, next(i)); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func write(d device, p []byte, off int64) (int, error) { return d.WriteAt(p, off) }
func read(d device, p []byte, off int64) (int, error)  { return d.ReadAt(p, off) }

// scattered visits each block once in an order without a pattern, then again.
func scattered(i int64) int64 { return i * 7919 % (benchSize / block) * block }

func BenchmarkFirstWrites4K(b *testing.B)    { run(b, block, false, write, scattered) }
func BenchmarkOverwrites4K(b *testing.B)     { run(b, block, true, write, scattered) }
func BenchmarkReads4K(b *testing.B)          { run(b, block, true, read, scattered) }
func BenchmarkUntouchedReads4K(b *testing.B) { run(b, block, false, read, scattered) }

func BenchmarkSequentialWrites1M(b *testing.B) {
	run(b, 1<<20, false, write, func(i int64) int64 { return i << 20 % benchSize })
}

func BenchmarkSequentialReads1M(b *testing.B) {
	run(b, 1<<20, true, read, func(i int64) int64 { return i << 20 % benchSize })
}

// BenchmarkFlushEach32Writes is what a guest with a journal does.
func BenchmarkFlushEach32Writes(b *testing.B) {
	n := 0
	run(b, block, false, func(d device, p []byte, off int64) (int, error) {
		k, err := d.WriteAt(p, off)
		if n++; n%32 != 0 || err != nil {
			return k, err
		}
		switch d := d.(type) {
		case *os.File:
			return k, d.Sync()
		case *overlay.Overlay:
			return k, d.Flush()
		}
		return k, err
	}, scattered)
}

// BenchmarkExtents asks a map in which every other block was written.
func BenchmarkExtents(b *testing.B) {
	base := &made{size: benchSize}
	ov := fresh(b, base, overlay.Options{})
	for off := int64(0); off < benchSize; off += 2 * block {
		if _, err := ov.WriteAt(make([]byte, block), off); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		if _, err := ov.ExtentAt(scattered(i)); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
