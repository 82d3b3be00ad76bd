//go:build linux

package trees

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Files that come out of a disk image are those that the kernel shows on it: as a
// directory, and as an archive.
func TestFilesOutOfImagesAreThoseOfTheKernel(t *testing.T) {
	needRoot(t)
	need(t, "python3", "tar")
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			need(t, kinds[kind][0])
			image, mnt := filepath.Join(t.TempDir(), "disk.raw"), t.TempDir()
			if err := os.WriteFile(image, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(image, 1<<30); err != nil {
				t.Fatal(err)
			}
			must(t, append(append([]string(nil), kinds[kind]...), image)...)
			must(t, "mount", "-o", "loop", image, mnt)
			mounted := true
			unmount := func() {
				if mounted {
					mounted = false
					if err := unix.Unmount(mnt, 0); err != nil {
						t.Errorf("unmount %s: %v", mnt, err)
					}
				}
			}
			t.Cleanup(unmount)
			must(t, "python3", "../check/mktree.py", "--big", "6", mnt)
			want := listing(t, mnt)
			s := newStore(t)
			must(t, "sync", "-f", mnt)
			snap, _ := s.backup(exitOK, "running", "disk.img:"+image) // as a running machine's: with a journal
			s.extracted(t, snap, want)
			unmount()
			snap, _ = s.backup(exitOK, "stopped", "disk.img:"+image)
			s.extracted(t, snap, want)
		})
	}
}

// extracted fetches all of the image of a snapshot and compares it.
func (s *store) extracted(t *testing.T, snap, want string) {
	t.Helper()
	ignore := []string{"--ignore", "flags", "--ignore", "project", "--ignore", "xattr:trusted.SGI_ACL", "--skip", "lost+found"}
	archive := filepath.Join(t.TempDir(), "out.pxar")
	s.hold(exitOK, "file-restore", "extract", snap, "/disk.img/raw", archive, "--format", "pxar")
	same(t, snap+" as pxar", want, written(t, must(t, "python3", "../check/pxar.py", archive)), append(ignore, "--ignore", "blocks")...)
	out := filepath.Join(t.TempDir(), "out")
	released(t, out)
	s.hold(exitOK, "file-restore", "extract", snap, "/disk.img/raw", out)
	same(t, snap+" as a directory", want, out, ignore...)
}
