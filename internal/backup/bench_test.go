package backup_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// BenchmarkImage backs 64 MiB up with 4 MiB chunks into memory. The test binary
// itself stands for machine code.
func BenchmarkImage(b *testing.B) {
	const size = 64 << 20
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	code, err := os.ReadFile(exe)
	if err != nil {
		b.Fatal(err)
	}
	elf := make([]byte, 0, size)
	for i := 0; len(elf) < size; i++ {
		elf = append(elf, byte(i)) // no two chunks alike
		elf = append(elf, code[:min(len(code), size-len(elf))]...)
	}
	random, text := make([]byte, size), make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(random)
	fill(rng(1), text)
	for _, kind := range []struct {
		name string
		data []byte
	}{{"elf", elf}, {"random", random}, {"text", text}, {"zero", make([]byte, size)}} {
		img := &memImage{b: kind.data}
		bench := func(b *testing.B, second bool) {
			b.SetBytes(size)
			b.ReportAllocs()
			one := func(m *repotest.Memory, n int64) {
				j := job(n, img)
				j.Options = backup.Options{}
				if _, err := backup.Run(b.Context(), m, j); err != nil {
					b.Fatal(err)
				}
			}
			m := repotest.New()
			n := int64(0)
			if second {
				one(m, n)
			}
			for b.Loop() {
				if n++; !second {
					m, n = repotest.New(), 0
				}
				one(m, n)
			}
		}
		b.Run("first/kind="+kind.name, func(b *testing.B) { bench(b, false) })
		b.Run("again/kind="+kind.name, func(b *testing.B) { bench(b, true) })
	}
}
