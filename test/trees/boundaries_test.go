//go:build linux

package trees

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// below mounts a small tmpfs at a directory of a tree and puts a file into it.
func below(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(dir, "inside"), []byte(dir), 0o644); err != nil {
		t.Fatal(err)
	}
}

// paths are the paths of an archive, without the root.
func (s *store) paths(snapshot, archive string) []string {
	s.t.Helper()
	out := must(s.t, "python3", "-c", `
import sys
sys.path.insert(0, "../check")
import pxar
for e in pxar.Repository(sys.argv[1], None).archive(sys.argv[2], sys.argv[3]):
    if e["path"]:
        print(e["path"] + ("/" if e["type"] == "directory" else ""))
`, s.dir, snapshot, archive)
	return strings.Fields(out)
}

func TestOtherFileSystemsAreEnteredOnlyWhenAsked(t *testing.T) {
	needRoot(t)
	need(t, "python3", "zstd")
	src := t.TempDir()
	for _, name := range []string{"one", "two", "two/deeper"} {
		below(t, filepath.Join(src, name))
	}
	if err := os.Mkdir(filepath.Join(src, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "-t", "proc", "proc", filepath.Join(src, "proc"))
	t.Cleanup(func() { _ = unix.Unmount(filepath.Join(src, "proc"), unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(src, "z"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	bind := filepath.Join(src, "bind") // the same device: it is entered
	if err := os.Mkdir(bind, 0o755); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "bound"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, "mount", "--bind", other, bind)
	t.Cleanup(func() { _ = unix.Unmount(bind, unix.MNT_DETACH) })

	s := newStore(t)
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"none", nil, []string{"bind/", "bind/bound", "one/", "proc/", "two/", "z"}},
		{"one", []string{"--include-dev", filepath.Join(src, "one")}, []string{"bind/", "bind/bound", "one/", "one/inside", "proc/", "two/", "z"}},
		{
			"two and what is mounted in it",
			[]string{"--include-dev", filepath.Join(src, "two"), "--include-dev", filepath.Join(src, "two/deeper")},
			[]string{"bind/", "bind/bound", "one/", "proc/", "two/", "two/deeper/", "two/deeper/inside", "two/inside", "z"},
		},
		{
			"all but virtual ones",
			[]string{"--all-file-systems"},
			[]string{"bind/", "bind/bound", "one/", "one/inside", "proc/", "two/", "two/deeper/", "two/deeper/inside", "two/inside", "z"},
		},
	} {
		for _, mode := range modes {
			snap, _ := s.backup(exitOK, "dev-"+mode, append([]string{"root.pxar:" + src, "--change-detection-mode", mode}, tc.args...)...)
			if got := s.paths(snap, "root.pxar"); !slices.Equal(got, tc.want) {
				t.Errorf("%s, %s: %q, want %q", tc.name, mode, got, tc.want)
			}
		}
	}
}

func TestVirtualFileSystemIsNoSource(t *testing.T) {
	needRoot(t)
	s := newStore(t)
	if _, said := s.backup(exitFailed, "proc", "root.pxar:/proc/sys"); !strings.Contains(said, "/proc/sys") {
		t.Errorf("said %q", said)
	}
}
