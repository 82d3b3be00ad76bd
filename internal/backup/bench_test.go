package backup_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/chunker"
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

// BenchmarkDynamic backs the same data up that BenchmarkImage does, as a file
// archive.
func BenchmarkDynamic(b *testing.B) {
	const size = 256 << 20
	mixed := mixedData(b, size)
	for _, second := range []bool{false, true} {
		for _, dynamic := range []bool{false, true} {
			b.Run(fmt.Sprintf("again=%v/dynamic=%v", second, dynamic), func(b *testing.B) {
				b.SetBytes(size)
				b.ReportAllocs()
				one := func(m *repotest.Memory, n int64) {
					err := session(b.Context(), m, n, backup.Options{}, func(w *backup.Writer) (err error) {
						if !dynamic {
							_, err = w.Image(b.Context(), disk, &memImage{b: mixed})
							return err
						}
						cut, err := chunker.New(chunker.DefaultAverage)
						if err == nil {
							_, err = w.DynamicFrom(b.Context(), fileArchive, cut, bytes.NewReader(mixed))
						}
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				m, n := repotest.New(), int64(0)
				if second {
					one(m, n)
				}
				for b.Loop() {
					if n++; !second {
						m, n = repotest.New(), 0
					}
					one(m, n)
				}
			})
		}
	}
}

// mixedData is half machine code, a quarter text and a quarter random bytes, in
// runs of 1 MiB, no two alike.
func mixedData(b *testing.B, size int) []byte {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	code, err := os.ReadFile(exe)
	if err != nil {
		b.Fatal(err)
	}
	text := make([]byte, 1<<20)
	fill(rng(1), text)
	noise := rand.NewChaCha8([32]byte{1})
	out := make([]byte, size)
	for i := range size >> 20 {
		run := out[i<<20 : (i+1)<<20]
		switch i % 4 {
		case 0, 2:
			copy(run, code[i*7919*64%(len(code)-len(run)):])
		case 1:
			copy(run, text)
		case 3:
			noise.Read(run)
		}
		run[0], run[1] = byte(i), byte(i>>8)
		for k := 0; k < len(run); k += 32 << 10 {
			run[k] = byte(i * k)
		}
	}
	return out
}
