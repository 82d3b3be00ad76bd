package simdisk_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// backup does about what one small backup does: chunks through a temporary
// name, an index, a manifest, one sync, one rename.
func backup(b testing.TB, v vfs.FS, chunk []byte) {
	b.Helper()
	must(b, v.Mkdir("vm", 0o755))
	must(b, v.Mkdir("vm/100", 0o755))
	must(b, v.Mkdir("vm/100/t", 0o755))
	index, err := v.Create("vm/100/t/x.fidx", 0o644)
	must(b, err)
	for i := range 16 {
		dir := fmt.Sprintf(".chunks/%04x", i*4001)
		put(b, v, dir+"/tmp", chunk, false)
		must(b, v.Rename(dir+"/tmp", fmt.Sprintf("%s/%064x", dir, i)))
		_, err := index.WriteAt(make([]byte, 32), int64(4096+32*i))
		must(b, err)
	}
	must(b, index.Close())
	put(b, v, "vm/100/t/manifest.tmp", chunk[:300], false)
	must(b, v.SyncFS())
	must(b, v.Rename("vm/100/t/manifest.tmp", "vm/100/t/manifest"))
	must(b, v.SyncDir("vm/100/t"))
}

func store(b testing.TB, dirs int) *simdisk.Disk {
	d := simdisk.New(simdisk.Options{})
	must(b, d.Mkdir(".chunks", 0o755))
	for i := range dirs {
		must(b, d.Mkdir(fmt.Sprintf(".chunks/%04x", i), 0o755))
	}
	must(b, d.SyncFS())
	return d
}

func BenchmarkBackupCrashAndReopen(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("dirs=65536/chunk=%dKiB", size>>10), func(b *testing.B) {
			empty := store(b, 65536)
			total := empty.Clone()
			chunk := make([]byte, size)
			backup(b, total, chunk)
			ops := total.Ops() - empty.Ops()
			rng := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				d := empty.Clone()
				backup(b, d, chunk)
				c := d.Crash(rng)
				if _, err := c.ReadDir("vm/100/t"); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(ops), "ops/backup")
		})
	}
}

func BenchmarkCrash(b *testing.B) {
	for _, dirs := range []int{65536} {
		for _, size := range []int{4 << 10, 64 << 10, 4 << 20} {
			b.Run(fmt.Sprintf("dirs=%d/chunk=%dKiB", dirs, size>>10), func(b *testing.B) {
				d := store(b, dirs)
				chunk := make([]byte, size)
				for i := range 16 { // unsynced
					name := fmt.Sprintf(".chunks/%04x/", i*4001)
					put(b, d, name+"tmp", chunk, false)
					must(b, d.Rename(name+"tmp", name+"final"))
				}
				rng := rand.New(rand.NewPCG(1, 1))
				b.ReportAllocs()
				for b.Loop() {
					d.Crash(rng)
				}
			})
		}
	}
}

func BenchmarkClone(b *testing.B) {
	d := store(b, 65536)
	b.ReportAllocs()
	for b.Loop() {
		d.Clone()
	}
}
