//go:build unix

package overlay

import (
	"errors"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"golang.org/x/sys/unix"
)

// lock takes the whole file. A file system without locks has one user at a
// time by agreement.
func lock(f *os.File) error {
	err := fileops.Control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrInUse
	case errors.Is(err, unix.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		return nil
	}
	return err
}
