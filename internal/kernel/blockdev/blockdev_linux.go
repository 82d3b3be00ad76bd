package blockdev

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func inspect(f *os.File) (g Geometry, err error) {
	err = control(f, func(fd uintptr) error {
		var size uint64 // BLKGETSIZE64 writes 64 bits on every machine
		if err := ioctl(fd, unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
			return err
		}
		var logical, readOnly int32
		if err := ioctl(fd, unix.BLKSSZGET, unsafe.Pointer(&logical)); err != nil {
			return err
		}
		var physical uint32
		if err := ioctl(fd, unix.BLKPBSZGET, unsafe.Pointer(&physical)); err != nil {
			return err
		}
		if err := ioctl(fd, unix.BLKROGET, unsafe.Pointer(&readOnly)); err != nil {
			return err
		}
		g = Geometry{
			Size:          int64(size),
			LogicalBlock:  int(logical),
			PhysicalBlock: int(physical),
			ReadOnly:      readOnly != 0,
		}
		return nil
	})
	return g, err
}

// punchZeros uses fallocate, which on a block device is the zero-out that may
// unmap and never falls back to writing.
func punchZeros(f *os.File, off, n int64) error {
	return control(f, func(fd uintptr) error {
		return unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

func zeroOut(f *os.File, off, n int64) error { return rangeIoctl(f, unix.BLKZEROOUT, off, n) }

func discard(f *os.File, off, n int64) error { return rangeIoctl(f, unix.BLKDISCARD, off, n) }

// dropCache flushes and invalidates by ioctl; who may not do that can still drop
// clean pages.
func dropCache(f *os.File) error {
	return control(f, func(fd uintptr) error {
		err := ioctl(fd, unix.BLKFLSBUF, nil)
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			err = errors.Join(unix.Fsync(int(fd)), unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED))
		}
		return err
	})
}

func rangeIoctl(f *os.File, req uintptr, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	return control(f, func(fd uintptr) error { return ioctl(fd, req, unsafe.Pointer(&r)) })
}

func ioctl(fd, req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, req, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.ENOTTY:
			return fmt.Errorf("%w (%w)", errors.ErrUnsupported, errno)
		}
		return errno // EOPNOTSUPP is errors.ErrUnsupported by itself
	}
}

func control(f *os.File, call func(fd uintptr) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) { failed = call(fd) }); err != nil {
		return err
	}
	return failed
}
