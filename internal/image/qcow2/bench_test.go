package qcow2_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image/qcow2"
)

func BenchmarkRead(b *testing.B) {
	if _, err := exec.LookPath("qemu-img"); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	disk := mixed()
	src := write(b, filepath.Join(dir, "src.raw"), disk)
	for name, args := range map[string][]string{
		"plain": {},
		"zlib":  {"-c"},
		"zstd":  {"-c", "-o", "compression_type=zstd"},
	} {
		path := filepath.Join(dir, name+".qcow2")
		args = append([]string{"convert", "-f", "raw", "-O", "qcow2"}, append(args, src, path)...)
		if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		b.Run("kind="+name, func(b *testing.B) {
			img, err := qcow2.Open(path, qcow2.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer img.Close()
			p := make([]byte, len(disk))
			b.SetBytes(int64(len(disk)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := img.ReadAt(p, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
