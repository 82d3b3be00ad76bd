package libvirt

import (
	"errors"
	"os"
	"path/filepath"
)

// SystemScratchDir is where QEMU of the system's daemon can write, usually on
// the file system of its images.
const SystemScratchDir = "/var/lib/libvirt/holdfast-scratch"

// RunDir is where sockets of this user are that QEMU's user must reach:
// HOLDFAST_RUN_DIR, or a place of the system's.
func RunDir() (string, error) {
	if dir := os.Getenv("HOLDFAST_RUN_DIR"); dir != "" {
		return filepath.Abs(filepath.Join(dir, "libvirt"))
	}
	if os.Geteuid() == 0 {
		return "/run/holdfast-libvirt", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "holdfast-libvirt"), nil
	}
	return "", errors.New("neither HOLDFAST_RUN_DIR nor XDG_RUNTIME_DIR is set: log in properly, or name a run directory")
}

// makeReachable makes a directory that other users can go through, whatever
// this process takes from the modes of new files. One that is there stays as it
// is.
func makeReachable(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	const mode = 0o711
	if err := os.MkdirAll(dir, mode); err != nil { //nolint:gosec // that is what it is for
		return err
	}
	return os.Chmod(dir, mode) //nolint:gosec // the same
}
