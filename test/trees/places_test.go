//go:build linux

package trees

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// place is a file system of a test's own.
type place struct {
	kind  string
	dir   string
	lacks []string // what mktree.py could not make here
}

// kinds are the file systems, and how an image becomes one.
var kinds = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F"},
	"xfs":   {"mkfs.xfs", "-q", "-f"},
	"btrfs": {"mkfs.btrfs", "-q", "-f"},
	"tmpfs": nil,
}

// mounted gives an empty file system of a kind, until the end of the test.
func mounted(t *testing.T, kind string) place {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	mount := []string{"mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", dir}
	if mkfs := kinds[kind]; mkfs != nil {
		need(t, mkfs[0])
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 2<<30); err != nil {
			t.Fatal(err)
		}
		must(t, append(slices.Clone(mkfs), image)...)
		mount = []string{"mount", "-o", "loop", image, dir}
		if kind == "ext4" { // project ids need a feature that some kernels refuse to mount
			if code, _, _ := run(t, "sh", "-c", `tune2fs -O project "$1" && mount -o loop "$1" "$2" && umount "$2" || { tune2fs -O ^project "$1"; exit 1; }`, "sh", image, dir); code != 0 {
				t.Log("no project ids on ext4 with this kernel")
			}
		}
	}
	must(t, mount...)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
			_ = unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return place{kind: kind, dir: dir}
}

// filled is a new directory in the place with a nasty tree.
func (p *place) filled(t *testing.T, name string, options ...string) string {
	t.Helper()
	dir := filepath.Join(p.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"python3", "../check/mktree.py", "--big", "6"}, options...)
	p.lacks = strings.Fields(must(t, append(args, dir)...))
	released(t, dir)
	return dir
}

// released lets a tree be removed at the end of the test.
func released(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		if _, err := os.Lstat(dir); err != nil {
			return
		}
		if err := unflag(dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	})
}

// made is a nasty tree where the tests' temporary files are.
func made(t *testing.T, options ...string) string {
	t.Helper()
	p := place{dir: t.TempDir()}
	dir := p.filled(t, "tree", options...)
	t.Logf("cannot be made here: %s", strings.Join(p.lacks, " "))
	return dir
}

func (p *place) String() string {
	return fmt.Sprintf("%s without %s", p.kind, strings.Join(p.lacks, " "))
}
