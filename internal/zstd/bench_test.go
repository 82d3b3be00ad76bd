package zstd_test

import (
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// machineCode returns the start of this test program.
func machineCode(b *testing.B, n int) []byte {
	b.Helper()
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	raw, err := os.ReadFile(exe)
	if err != nil {
		b.Fatal(err)
	}
	for len(raw) < n {
		raw = append(raw, raw...)
	}
	return raw[:n]
}

func kinds(b *testing.B, n int) map[string][]byte {
	b.Helper()
	return map[string][]byte{"elf": machineCode(b, n), "text": text(n), "random": random(n), "zero": make([]byte, n)}
}

func BenchmarkCompress(b *testing.B) {
	for kind, plain := range kinds(b, 4<<20) {
		b.Run("size=4MiB/kind="+kind, func(b *testing.B) {
			e, dst := encoder(b), make([]byte, zstd.Bound(len(plain)))
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n, _ = e.Compress(dst, plain)
			}
			b.ReportMetric(float64(n)/float64(len(plain)), "ratio")
		})
	}
}

func BenchmarkDecompress(b *testing.B) {
	for kind, plain := range kinds(b, 4<<20) {
		b.Run("size=4MiB/kind="+kind, func(b *testing.B) {
			e, d, packed := encoder(b), decoder(b), make([]byte, zstd.Bound(len(plain)))
			n, ok := e.Compress(packed, plain)
			if !ok {
				b.Fatal("does not fit")
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decompress(plain, packed[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
