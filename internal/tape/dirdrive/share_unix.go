//go:build unix

package dirdrive

import (
	"os"
	"path/filepath"
	"syscall"
)

// share gives a new file to the owner and the group of its directory, who may
// be the server's user.
func share(f *os.File) error {
	if err := f.Chmod(0o640); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		_ = f.Chown(int(st.Uid), int(st.Gid)) // only root can, and only root needs to
	}
	return nil
}
