package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// RunDir is where this user's sockets are: HOLDFAST_RUN_DIR, or a place of the
// system's.
func RunDir() (string, error) {
	if dir := os.Getenv("HOLDFAST_RUN_DIR"); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return "/run/holdfast/guest", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "holdfast", "guest"), nil
	}
	return "", errors.New("neither HOLDFAST_RUN_DIR nor XDG_RUNTIME_DIR is set: log in properly, or name a run directory")
}

// makeRunDir makes a directory that only this user can enter. One that is there
// must be like that: through the socket in it the guest's disks can be read.
func makeRunDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	if !st.IsDir() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("run directory %s: want a directory that only its owner can enter, and it is %s: name another", dir, st.Mode())
	}
	return nil
}
