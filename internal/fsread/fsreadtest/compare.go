package fsreadtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Compare fails t for each difference between what f says and what the kernel
// shows below dir. ignore and skip are options of test/check/treecmp.py without
// their names; blocks are never compared, and neither are inode flags.
func Compare(t testing.TB, f fsread.FS, dir string, ignore []string, skip []string) {
	t.Helper()
	var list bytes.Buffer
	if err := List(f, &list); err != nil {
		t.Fatal(err)
	}
	CompareListing(t, &list, dir, ignore, skip)
}

// CompareListing is [Compare] with a listing that was made elsewhere.
func CompareListing(t testing.TB, list *bytes.Buffer, dir string, ignore []string, skip []string) {
	t.Helper()
	args := []string{"-I", Script(t, "treecmp.py")}
	for _, i := range append([]string{"flags", "project", "blocks"}, ignore...) {
		args = append(args, "--ignore", i)
	}
	for _, s := range skip {
		args = append(args, "--skip", s)
	}
	cmd := exec.Command("python3", append(args, dir, "-")...)
	cmd.Stdin = list
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("the reader (second) differs from %s (first): %v\n%s", dir, err, out)
	}
}

// Script finds a script of test/check from the directory of any package's tests.
func Script(t testing.TB, name string) string {
	t.Helper()
	at, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; at != filepath.Dir(at); at = filepath.Dir(at) {
		script := filepath.Join(at, "test", "check", name)
		if _, err := os.Stat(script); err == nil {
			return script
		}
	}
	t.Fatalf("test/check/%s is not above the test's directory", name)
	return ""
}
