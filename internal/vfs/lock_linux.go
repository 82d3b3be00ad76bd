package vfs

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// LockDir implements [FS] with flock on a description of its own.
func (o *OS) LockDir(name string, mode LockMode, wait bool) (Unlocker, error) {
	fd, err := o.openAt(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, o.fail("lock directory", name, err)
	}
	how := unix.LOCK_SH
	if mode == Exclusive {
		how = unix.LOCK_EX
	}
	if !wait {
		how |= unix.LOCK_NB
	}
	_, err = retry(func() (int, error) { return 0, unix.Flock(fd, how) })
	if err = lockError(err); err == nil {
		err = o.sameDir(fd, name)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, o.fail("lock directory", name, err)
	}
	return &held{release: func() error {
		// A child that is being started may share the description for a
		// moment; unlocking reaches all its copies, closing would not.
		return o.fail("unlock directory", name, errors.Join(unix.Flock(fd, unix.LOCK_UN), unix.Close(fd)))
	}}, nil
}

// sameDir checks that the locked directory is still the one called name: it
// may have been removed, and made anew, while the lock was waited for.
func (o *OS) sameDir(fd int, name string) error {
	var mine, now unix.Stat_t
	if err := unix.Fstat(fd, &mine); err != nil {
		return err
	}
	err := o.inParent("lstat", name, false, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &now, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err == nil && (mine.Ino != now.Ino || mine.Dev != now.Dev) {
		return fs.ErrNotExist
	}
	return err
}

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
		return o.fail("unlock", name, errors.Join(set(unix.F_UNLCK), unix.Close(fd)))
	}}, nil
}
