package target

import (
	"errors"
	"os"

	"github.com/holdfast-backup/holdfast/internal/kernel/fileops"
	"golang.org/x/sys/unix"
)

func isFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}

func isBusy(err error) bool {
	return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ETXTBSY)
}

func isReadOnly(err error) bool { return errors.Is(err, unix.EROFS) }

// startWriteback starts writing all dirty pages of the file and does not wait
// for them, so that the sync at the end finds little to do.
func startWriteback(f *os.File) {
	_ = fileops.Control(f, func(fd int) error { return unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE) })
}

// QEMU marks what it does with an image by shared locks on single bytes: at
// qemuUses+p when it has permission p, at qemuForbids+p when nobody else may
// have it (QEMU: block/file-posix.c). We follow, so that neither side opens an
// image that the other one has.
const (
	qemuUses    = 100
	qemuForbids = 200
	qemuBytes   = 100 // of each kind

	permRead, permWrite, permResize = 0, 1, 3
)

// claim fails with ErrBusy when a virtual machine has the image open, and keeps
// it from being opened by one until the file is closed.
func claim(f *os.File) error {
	return fileops.Control(f, func(fd int) error {
		for _, at := range []int64{
			qemuUses + permRead, qemuUses + permWrite,
			qemuForbids + permRead, qemuForbids + permWrite, qemuForbids + permResize,
		} {
			mark := unix.Flock_t{Type: unix.F_RDLCK, Start: at, Len: 1}
			if err := lock(unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &mark)); err != nil {
				return err
			}
		}
		other := unix.Flock_t{Type: unix.F_WRLCK, Start: qemuUses, Len: qemuForbids + qemuBytes - qemuUses}
		if err := lock(unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &other)); err != nil {
			return err
		}
		if other.Type != unix.F_UNLCK {
			return ErrBusy
		}
		return nil
	})
}

// lock takes the answers of file systems without locks as free.
func lock(err error) error {
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return ErrBusy
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOLCK), errors.Is(err, errors.ErrUnsupported):
		return nil
	}
	return err
}
