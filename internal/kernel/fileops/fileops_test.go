package fileops_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

func TestNameThatIsTakenIsNotTakenAway(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"new", "old"} {
		if err := os.WriteFile(name, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := fileops.RenameNew("new", "old"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile("old"); string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	if err := fileops.RenameNew("new", "free"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile("free"); string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	if err := fileops.SyncDir("."); err != nil {
		t.Error(err)
	}
}

func TestPunchedRangeReadsAsZeros(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := fileops.Sparse(f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte{7}, 3<<12)); err != nil {
		t.Fatal(err)
	}
	err = fileops.Punch(f, 1<<12, 1<<12)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this system or file system punches no holes")
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || len(b) != 3<<12 || bytes.Count(b, []byte{0}) != 1<<12 || b[1<<12] != 0 {
		t.Errorf("%d bytes, %d zeros, %v", len(b), bytes.Count(b, []byte{0}), err)
	}
}
