package image

import (
	"errors"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"golang.org/x/sys/unix"
)

// seekExtent returns where data begins at or behind off (negative: nowhere)
// and, when that is off itself, where it ends. It moves the file's position,
// which pread does not use, so concurrent calls do not disturb each other.
func seekExtent(f *os.File, off int64) (data, hole int64, err error) {
	err = fileops.Control(f, func(fd int) error {
		if data, err = unix.Seek(fd, off, unix.SEEK_DATA); err != nil || data > off {
			return err
		}
		hole, err = unix.Seek(fd, off, unix.SEEK_HOLE)
		return err
	})
	switch {
	case errors.Is(err, unix.ENXIO):
		return -1, 0, nil
	case errors.Is(err, unix.EINVAL): // the file system does not know these seeks
		return 0, 0, errors.ErrUnsupported
	}
	return data, hole, err
}

// A hint that is refused is no error.
func adviseSequential(f *os.File) {
	_ = fileops.Control(f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) })
}

func adviseWillNeed(f *os.File, off, n int64) {
	_ = fileops.Control(f, func(fd int) error { return unix.Fadvise(fd, off, n, unix.FADV_WILLNEED) })
}

// qemuWrites is the byte of a file on which QEMU keeps a shared lock while it
// may write to it (QEMU: block/file-posix.c).
const qemuWrites = 100 + 1

// qemuForbidsWriters is the byte for a shared lock of whoever lets nobody write.
const qemuForbidsWriters = 200 + 1

func hasWriter(f *os.File) bool {
	other := unix.Flock_t{Type: unix.F_WRLCK, Start: qemuWrites, Len: 1}
	err := fileops.Control(f, func(fd int) error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &other) })
	return err == nil && other.Type != unix.F_UNLCK // a file system without locks knows no writer
}

// forbidWriters marks first and looks then: so does QEMU, and one of two sees
// the other.
func forbidWriters(f *os.File) error {
	err := fileops.Control(f, func(fd int) error {
		mark := unix.Flock_t{Type: unix.F_RDLCK, Start: qemuForbidsWriters, Len: 1}
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &mark)
	})
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES), err == nil && hasWriter(f):
		return ErrInUse
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		return nil // a file system without locks
	}
	return err
}
