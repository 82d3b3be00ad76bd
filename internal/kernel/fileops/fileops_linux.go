package fileops

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// RenameNew gives a file a name that must be free; else the error wraps
// fs.ErrExist.
func RenameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // not on this file system or kernel
		return renamePortable(from, to)
	}
	return err
}

// Punch makes a range read as zeros and gives its space back.
func Punch(f *os.File, off, n int64) error {
	return Control(f, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}
