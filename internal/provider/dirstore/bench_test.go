package dirstore_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/provider"
	"github.com/holdfast-backup/holdfast/internal/provider/dirstore"
)

// BenchmarkBackup stores a disk of noise, half of which are holes.
func BenchmarkBackup(b *testing.B) {
	const size = 512 << 20
	dir := b.TempDir()
	raw := filepath.Join(dir, "raw")
	f, err := os.Create(raw)
	if err != nil {
		b.Fatal(err)
	}
	noise := make([]byte, 8<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for off := int64(0); off < size; off += 16 << 20 {
		if _, err := f.WriteAt(noise, off); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	_ = f.Close()
	store := filepath.Join(dir, "store")
	if err := os.Mkdir(store, 0o700); err != nil {
		b.Fatal(err)
	}
	s, err := dirstore.Open(store, dirstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size / 2)
	b.ReportAllocs()
	for start := int64(1); b.Loop(); start++ {
		img, err := image.OpenFile(raw, image.FileOptions{})
		if err != nil {
			b.Fatal(err)
		}
		a := s.Archive(provider.Guest{Kind: provider.QEMU, ID: 1}, time.Unix(start, 0))
		vm := provider.VM{Volumes: []provider.Volume{{Device: "d", Image: img, Mode: provider.ModeNone}}}
		if _, err := s.BackupVM(b.Context(), a, vm); err != nil {
			b.Fatal(err)
		}
		if err := s.Free(b.Context(), a); err != nil {
			b.Fatal(err)
		}
		_ = img.Close()
	}
}
