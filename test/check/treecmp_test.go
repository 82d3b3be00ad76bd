//go:build linux

package check

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// python runs a program of this directory and returns its standard output.
func python(t *testing.T, wantExit int, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "python3", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if err != nil && exit == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != wantExit {
		t.Fatalf("%s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, wantExit, out, stderr.String())
	}
	return string(out)
}

// small makes a tree of a few entries, always the same.
func small(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	when := time.Unix(1_700_000_000, 5)
	err := errors.Join(
		os.Mkdir(at("d"), 0o750),
		os.WriteFile(at("d/f"), bytes.Repeat([]byte("content"), 1000), 0o644),
		os.WriteFile(at("one"), []byte("1"), 0o600),
		os.Link(at("one"), at("two")),
		os.WriteFile(at("own"), []byte("1"), 0o600),
		os.Symlink("d/f", at("l")),
		unix.Mkfifo(at("p"), 0o600),
		os.WriteFile(at("sparse"), nil, 0o600),
		os.Truncate(at("sparse"), 8<<20),
	)
	for _, name := range []string{"d/f", "d", "one", "own", "l", "p", "sparse", "."} {
		ts := []unix.Timespec{unix.NsecToTimespec(when.UnixNano()), unix.NsecToTimespec(when.UnixNano())}
		err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, at(name), ts, unix.AT_SYMLINK_NOFOLLOW))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEqualTreesHaveNoDifference(t *testing.T) {
	needTools(t)
	if out := python(t, 0, "treecmp.py", small(t), small(t)); out != "" {
		t.Errorf("said %q", out)
	}
}

func TestEachDifferenceIsSaid(t *testing.T) {
	needTools(t)
	for _, tc := range []struct {
		name  string
		spoil func(dir string) error
		want  string
	}{
		{"mode", func(d string) error { return os.Chmod(d+"/d", 0o700) }, `"d": mode is '0o700', should be '0o750'`},
		{"time of a directory", func(d string) error { return os.Chtimes(d+"/d", time.Time{}, time.Unix(1, 0)) }, `"d": mtime is 1000000000,`},
		{"size", func(d string) error { return changed(d+"/d/f", func() error { return os.Truncate(d+"/d/f", 6999) }) }, `"d/f": size is 6999, should be 7000`},
		{"content", func(d string) error {
			return changed(d+"/d/f", func() error { return os.WriteFile(d+"/d/f", bytes.Repeat([]byte("CONTENT"), 1000), 0o644) })
		}, `"d/f": content is`},
		{"target", func(d string) error { return errors.Join(os.Remove(d+"/l"), os.Symlink("d/g", d+"/l")) }, `"l": target is 'd/g', should be 'd/f'`},
		{"missing", func(d string) error { return os.Remove(d + "/p") }, `"p": fifo is missing`},
		{"added", func(d string) error { return os.Mkdir(d+"/d/new", 0o700) }, `"d/new": directory should not be there`},
		{"kind", func(d string) error { return errors.Join(os.Remove(d+"/p"), os.Mkdir(d+"/p", 0o600)) }, `"p": is a directory, should be a fifo`},
		{"link that is none", func(d string) error {
			return errors.Join(os.Remove(d+"/two"), os.WriteFile(d+"/two", []byte("1"), 0o600))
		}, `"two": is linked with null, should be with "one"`},
		{"link that should not be", func(d string) error { return errors.Join(os.Remove(d+"/own"), os.Link(d+"/one", d+"/own")) }, `"own": is linked with "one", should be with null`},
		{"hole that was filled", func(d string) error {
			return changed(d+"/sparse", func() error { return os.WriteFile(d+"/sparse", make([]byte, 8<<20), 0o600) })
		}, `"sparse": occupies`},
		{"attribute", func(d string) error { return unix.Setxattr(d+"/own", "user.new", []byte{1}, 0) }, `"own": xattr "user.new" is 01, should be None`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := small(t), small(t)
			if err := tc.spoil(b); errors.Is(err, unix.EOPNOTSUPP) {
				t.Skipf("this file system cannot: %v", err)
			} else if err != nil {
				t.Fatal(err)
			}
			if out := python(t, 1, "treecmp.py", a, b); !strings.Contains(out, tc.want) {
				t.Errorf("said %q, want %q", out, tc.want)
			}
			list := filepath.Join(t.TempDir(), "list") // the listing says the same
			if err := os.WriteFile(list, []byte(python(t, 0, "treecmp.py", "--list", a)), 0o600); err != nil {
				t.Fatal(err)
			}
			if out := python(t, 1, "treecmp.py", list, b); !strings.Contains(out, tc.want) {
				t.Errorf("with a listing said %q, want %q", out, tc.want)
			}
		})
	}
}

// changed does something to a file and sets its time back.
func changed(name string, do func() error) error {
	info, err := os.Stat(name)
	return errors.Join(err, do(), os.Chtimes(name, time.Time{}, info.ModTime()))
}

func TestMadeTreeIsEqualToItselfAndDifferentAfterChanges(t *testing.T) {
	needTools(t)
	dir := t.TempDir()
	defer python(t, 0, "mktree.py", "--release", dir)
	t.Logf("lacks here: %q", python(t, 0, "mktree.py", "--big", "1", dir))
	list := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte(python(t, 0, "treecmp.py", "--list", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := python(t, 0, "treecmp.py", list, dir); out != "" {
		t.Errorf("said %q", out)
	}
	python(t, 0, "mktree.py", "--change", "20", dir)
	if n := strings.Count(python(t, 1, "treecmp.py", list, dir), "\n"); n < 10 {
		t.Errorf("%d differences after 20 changes", n)
	}
}
