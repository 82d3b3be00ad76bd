package fsreadtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// Root skips the test if it cannot mount.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lack(t, "mounting needs root")
	}
}

// Lack skips the test for want of something, or fails it when CI is "true".
func Lack(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (test/packages installs what the tests need)", reason)
	}
	t.Skipf("%s (test/packages installs what the tests need)", reason)
}

// Run runs a program, which must succeed, and gives what it says.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(filepath.Join(dir, name))
	}
	if err != nil {
		Lack(t, name+" is not here")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Make makes a file of size bytes and a file system in it: mkfs is a command, to
// which the name of the file is added.
func Make(t testing.TB, size int64, mkfs ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	f, err := os.Create(img)
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(mkfs) > 0 {
		Run(t, mkfs[0], append(mkfs[1:len(mkfs):len(mkfs)], img)...)
	}
	return img
}

// Mount mounts an image through a loop device until unmount is called, or the test
// ends.
func Mount(t testing.TB, img, options string) (dir string, unmount func()) {
	t.Helper()
	Root(t)
	dir = t.TempDir()
	Run(t, "mount", "-o", "loop,"+options, img, dir)
	mounted := true
	unmount = func() {
		if !mounted {
			return
		}
		mounted = false
		// A mount lives on in copies of this mount namespace that other processes
		// have. So all is written before it goes here; a file system that was shut
		// down refuses that.
		_ = exec.Command("mount", "-o", "remount,ro", dir).Run()
		// A program that another test starts holds our files until it runs.
		var out []byte
		var err error
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			out, err = exec.Command("umount", dir).CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("busy")) || time.Now().After(end) {
				break
			}
		}
		if err != nil {
			t.Errorf("umount %s: %v: %s", dir, err, out)
		}
		release(t, img)
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// release waits for a while until no loop device has the image.
func release(t testing.TB, img string) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		out, err := exec.Command("losetup", "-j", img).Output()
		if err != nil {
			t.Errorf("losetup -j %s: %v", img, err)
		}
		if err != nil || len(out) == 0 {
			return
		}
	}
	t.Logf("%s is still mounted by somebody else", img)
}

// Tree fills an empty directory with files of every kind: test/check/mktree.py.
func Tree(t testing.TB, dir string, args ...string) {
	t.Helper()
	Run(t, "python3", append(append([]string{"-I", Script(t, "mktree.py")}, args...), dir)...)
}

// Change changes about n files of a [Tree].
func Change(t testing.TB, dir string, n, seed int) {
	t.Helper()
	Tree(t, dir, "--change", fmt.Sprint(n), "--seed", fmt.Sprint(seed))
}

// OpenFile opens an image until the test ends.
func OpenFile(t testing.TB, path string) *image.File {
	t.Helper()
	f, err := image.OpenFile(path, image.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
