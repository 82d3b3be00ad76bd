package fsreadtest

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestASparseImageIsSavedAndLoaded(t *testing.T) {
	want := make([]byte, 5*SparseBlock)
	want[SparseBlock+7], want[len(want)-1] = 1, 2
	dir := t.TempDir()
	from, to := filepath.Join(dir, "image"), filepath.Join(dir, "image.gz")
	if err := os.WriteFile(from, want, 0o600); err != nil {
		t.Fatal(err)
	}
	SaveSparse(t, from, to)
	s := LoadSparse(t, to)
	got, err := io.ReadAll(io.NewSectionReader(s, 0, s.Size()))
	if err != nil || !bytes.Equal(got, want) || len(s.Blocks) != 2 {
		t.Errorf("%d bytes, %d blocks, %v", len(got), len(s.Blocks), err)
	}
}
