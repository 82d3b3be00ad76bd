package restore_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

// nowhere is a fresh target that keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Zero(int64, int64) error                { return nil }
func (nowhere) Fresh() bool                            { return true }
func (nowhere) Finish() error                          { return nil }
func (nowhere) Close() error                           { return nil }

// BenchmarkImage restores 64 MiB with 4 MiB chunks out of memory.
func BenchmarkImage(b *testing.B) {
	const size = 64 << 20
	random, text := make([]byte, size), make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(random)
	fill(rng(1), text)
	for _, kind := range []struct {
		name string
		data []byte
	}{{"random", random}, {"text", text}, {"zero", make([]byte, size)}} {
		b.Run("kind="+kind.name, func(b *testing.B) {
			m := repotest.New()
			_, err := backup.Run(b.Context(), m, backup.Job{Snapshot: at(0), Sources: []backup.Source{{Name: disk, Image: bytesImage{bytes.NewReader(kind.data)}}}})
			if err != nil {
				b.Fatal(err)
			}
			s, err := m.Open(b.Context(), at(0))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := restore.Image(b.Context(), s, disk, nil, nowhere{}, restore.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
