package vfs

import (
	"io/fs"
	"math"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

func addSystemInfo(info *Info, st fs.FileInfo) {
	if sys, ok := st.Sys().(*syscall.Win32FileAttributeData); ok {
		info.Atime = time.Unix(0, sys.LastAccessTime.Nanoseconds())
	}
}

func diskUsage(dir string) (Usage, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return Usage{}, err
	}
	var available, total, free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &available, &total, &free); err != nil {
		return Usage{}, err
	}
	return Usage{Total: total, Used: total - free, Available: available}, nil
}

// syncOpenDir has nothing to do: NTFS logs changes of directories, and a
// directory opened for reading cannot be flushed.
func syncOpenDir(*os.File) error { return nil }

// rangeLocks are LockFileEx locks, each on a handle of its own. They are
// mandatory: others cannot read or write the locked bytes.
type rangeLocks struct{}

func (*rangeLocks) close(f *os.File) error { return f.Close() }

func (*rangeLocks) lock(p *portable, name string, off, length int64, mode LockMode) (release func() error, err error) {
	f, err := p.open(name, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if mode == Exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	if length == 0 {
		length = math.MaxInt64 - off
	}
	at := windows.Overlapped{Offset: uint32(off), OffsetHigh: uint32(off >> 32)}
	low, high := uint32(length), uint32(length>>32)
	err = windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, low, high, &at)
	switch err {
	case nil:
		return func() error {
			err := windows.UnlockFileEx(windows.Handle(f.Fd()), 0, low, high, &at)
			if cerr := f.Close(); err == nil {
				err = cerr
			}
			return err
		}, nil
	case windows.ERROR_LOCK_VIOLATION, windows.ERROR_IO_PENDING:
		err = ErrLocked
	case windows.ERROR_NOT_SUPPORTED, windows.ERROR_INVALID_FUNCTION:
		err = &noLocks{err}
	}
	_ = f.Close()
	return nil, err
}
