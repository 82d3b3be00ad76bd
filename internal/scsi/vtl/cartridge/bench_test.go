package cartridge_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const blockSize = 256 << 10

func randomBlock(b *testing.B) []byte {
	b.Helper()
	block := make([]byte, blockSize)
	_, _ = rand.Read(block)
	b.SetBytes(blockSize)
	b.ReportAllocs()
	return block
}

// BenchmarkWrite writes blocks to a cartridge and, for comparison, to a file; both
// come back to the start now and then, and are synced there.
func BenchmarkWrite(b *testing.B) {
	const most = 1 << 12
	for name, k := range map[string]*cartridge.Key{"cartridge": nil, "encrypted": keyOf(1)} {
		b.Run(name, func(b *testing.B) {
			block := randomBlock(b)
			c := onDisk(b)
			for n := uint64(0); b.Loop(); n++ {
				if n == most {
					n = 0
				}
				if err := c.WriteBlock(n, block, k); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Flush(); err != nil {
				b.Fatal(err)
			}
		})
	}
	b.Run("file", func(b *testing.B) {
		block := randomBlock(b)
		f, err := os.Create(filepath.Join(b.TempDir(), "file"))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for n := int64(0); b.Loop(); n++ {
			if n == most {
				n = 0
				if err := f.Truncate(0); err != nil {
					b.Fatal(err)
				}
			}
			if n%1024 == 1023 {
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := f.WriteAt(block, n*blockSize); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	const most = 256
	block := randomBlock(b)
	c := onDisk(b)
	for n := range uint64(most) {
		if err := c.WriteBlock(n, block, nil); err != nil {
			b.Fatal(err)
		}
	}
	for n := uint64(0); b.Loop(); n++ {
		if _, err := c.ReadBlock(n%most, block, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func onDisk(b *testing.B) *cartridge.Cartridge {
	b.Helper()
	d, err := vfs.OpenOS(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = d.Close() })
	if err := cartridge.Create(d, "tape", memory()); err != nil {
		b.Fatal(err)
	}
	c, err := cartridge.Open(d, "tape")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	return c
}
