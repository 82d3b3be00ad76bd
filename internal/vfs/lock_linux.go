package vfs

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// LockRange implements [FS] with an open-file-description lock: it conflicts
// with the record locks of other programs, and closing some other descriptor of
// the file does not release it.
func (o *OS) LockRange(name string, off, length int64, mode LockMode) (Unlocker, error) {
	access, kind := unix.O_RDONLY, int16(unix.F_RDLCK)
	if mode == Exclusive {
		access, kind = unix.O_RDWR, unix.F_WRLCK
	}
	if off < 0 || length < 0 {
		return nil, o.fail("lock", name, fs.ErrInvalid)
	}
	fd, err := o.openAt(name, access|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ELOOP) {
			err = ErrNotRegular
		}
		return nil, o.fail("lock", name, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotRegular
	}
	set := func(kind int16) error {
		l := unix.Flock_t{Type: kind, Start: off, Len: length}
		_, err := retry(func() (int, error) { return 0, unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l) })
		return lockError(err)
	}
	if err == nil {
		err = set(kind)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, o.fail("lock", name, err)
	}
	return &held{release: func() error {
		// A child that is being started may share the description for a
		// moment; unlocking reaches all its copies, closing would not.
		return o.fail("unlock", name, errors.Join(set(unix.F_UNLCK), unix.Close(fd)))
	}}, nil
}
