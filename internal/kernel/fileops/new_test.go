package fileops_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
)

// holds checks the names in the current directory.
func holds(t *testing.T, want ...string) {
	t.Helper()
	list, err := os.ReadDir(".")
	if err != nil || len(list) != len(want) {
		t.Fatalf("%v, %v, want %q", list, err, want)
	}
	for i, e := range list {
		if e.Name() != want[i] {
			t.Errorf("%s, want %s", e.Name(), want[i])
		}
	}
}

func TestNewFileHasItsNameOnlyWhenItIsComplete(t *testing.T) {
	t.Chdir(t.TempDir())
	f, err := fileops.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Drop()
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the end: %v", err)
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	f.Drop()
	holds(t, "a")
	if b, err := os.ReadFile("a"); string(b) != "content" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if info, err := os.Stat("a"); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("%v, %v: others may read it", info.Mode(), err)
	}
}

func TestNewFileThatIsDroppedLeavesNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	f, err := fileops.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	f.Drop()
	holds(t)
}

func TestNewFileReplacesNothing(t *testing.T) {
	t.Chdir(t.TempDir())
	f, err := fileops.Create("a")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Drop()
	if err := os.WriteFile("a", []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.Finish(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that was taken meanwhile: %v", err)
	}
	f.Drop()
	holds(t, "a")
	if b, err := os.ReadFile("a"); string(b) != "other" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := fileops.Create("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: %v", err)
	}
	for _, path := range []string{"", "x/", "gone/x"} {
		if f, err := fileops.Create(path); err == nil {
			f.Drop()
			t.Errorf("%q was made", path)
		}
	}
}

func TestFileThatIsReplacedIsThereUntilTheNewOneIsComplete(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := fileops.Replace("f")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Drop()
	if _, err := n.WriteString("new"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("f"); string(b) != "old" {
		t.Errorf("%q, %v", b, err)
	}
	if err := n.Finish(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("f"); string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	holds(t, "f")
}
