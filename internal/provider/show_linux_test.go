package provider

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOnlyWhatDeadProcessesLeftIsSwept(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("only root mounts")
		}
		t.Skip("only root mounts")
	}
	root := t.TempDir()
	self, err := ScratchName()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{self, "1-1", "not a process"} {
		at := filepath.Join(root, name, "restore-1", "tree with a space")
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=64k"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		if err := os.WriteFile(filepath.Join(at, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := SweepScratch(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{self: true, "1-1": false, "not a process": true} {
		_, err := os.Stat(filepath.Join(root, name, "restore-1", "tree with a space", "file"))
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := SweepScratch(t.Context(), filepath.Join(root, "missing")); err != nil {
		t.Errorf("nothing there: %v", err)
	}
}
