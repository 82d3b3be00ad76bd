package fsreadtest

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// CompareSparse compares a file in the root directory with the one at path: holes
// with holes, where both know them, and all else by its bytes. What the kernel
// says is a hole must be one for the reader too.
func CompareSparse(t testing.TB, f fsread.FS, name, path string) {
	t.Helper()
	e, err := f.Lookup(f.Root(), name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.Open(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	info, err := want.Stat()
	if err != nil || info.Size() != got.Size() {
		t.Fatalf("%s has %d bytes, its reader says %d (%v)", path, info.Size(), got.Size(), err)
	}
	a, b := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := int64(0); off < got.Size(); {
		k, err := image.FileExtent(want, off, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		r, err := image.ExtentAt(got, off)
		if err != nil {
			t.Fatal(err)
		}
		if r.Offset != off || r.Length < 1 || r.End() > got.Size() {
			t.Fatalf("%s: extent %+v at %d", path, r, off)
		}
		if k.Kind == image.Zero && r.Kind != image.Zero {
			t.Fatalf("%s: at %d the kernel has a hole of %d bytes, its reader %v", path, off, k.Length, r.Kind)
		}
		n := min(k.Length, r.Length)
		if k.Kind == image.Zero {
			off += n
			continue
		}
		n = min(n, int64(len(a)))
		if _, err := got.ReadAt(a[:n], off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if _, err := want.ReadAt(b[:n], off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(a[:n], b[:n]) || r.Kind == image.Zero && len(bytes.Trim(a[:n], "\x00")) > 0 {
			t.Fatalf("%s: other bytes among the %d at %d (%v)", path, n, off, r.Kind)
		}
		off += n
	}
}
