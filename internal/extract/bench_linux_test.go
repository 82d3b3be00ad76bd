package extract_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// BenchmarkDirectory extracts 10,000 files of 4 KiB in 500 directories.
func BenchmarkDirectory(b *testing.B) {
	tree := dir("")
	content := string(bytes.Repeat([]byte("0123456789abcdef"), 256))
	for i := range 500 {
		d := dir(fmt.Sprintf("d%03d", i))
		for j := range 20 {
			d.kids = append(d.kids, file(fmt.Sprintf("f%03d", j), content))
		}
		tree.kids = append(tree.kids, d)
	}
	a := encode(b, tree, 2)
	top, err := os.MkdirTemp("/dev/shm", "holdfast-bench")
	if err != nil {
		top = b.TempDir()
	}
	b.Cleanup(func() { _ = os.RemoveAll(top) })
	b.SetBytes(int64(len(a.payload)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r, err := pxar.NewReader(bytes.NewReader(a.meta), bytes.NewReader(a.payload))
		if err != nil {
			b.Fatal(err)
		}
		n++
		target := filepath.Join(top, fmt.Sprint(n))
		res, err := extract.Directory(b.Context(), r, target, extract.Options{})
		if err != nil || res.Made.Files != 10_000 {
			b.Fatalf("%v, %+v", err, res)
		}
		b.StopTimer()
		if err := os.RemoveAll(target); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
