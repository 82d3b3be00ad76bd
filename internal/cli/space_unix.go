//go:build unix

package cli

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// spaceOf is what a file takes on its disk, in bytes.
func spaceOf(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return int64(st.Blocks) * 512, nil
}
