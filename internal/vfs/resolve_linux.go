package vfs

import (
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

func (o *OS) how(flags int, perm uint32) *unix.OpenHow {
	return &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Mode:    uint64(perm),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
}

// openAt opens a name below the root without passing a symbolic link.
func (o *OS) openAt(name string, flags int, perm uint32) (int, error) {
	if err := CheckName(name); err != nil {
		return -1, err
	}
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	if o.noBelow2 {
		return o.walk(name, flags, perm)
	}
	how := o.how(flags, perm)
	for tries := 0; ; {
		fd, err := unix.Openat2(o.root, name, how)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN && tries < 64: // something was renamed meanwhile
			tries++
			continue
		}
		return fd, err
	}
}

// walk is openAt for kernels before 5.6: one component at a time.
func (o *OS) walk(name string, flags int, perm uint32) (int, error) {
	dir := o.root
	for {
		part, rest, more := strings.Cut(name, "/")
		mode := flags
		if more {
			mode = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := retry(func() (int, error) { return unix.Openat(dir, part, mode, perm) })
		if dir != o.root {
			_ = unix.Close(dir)
		}
		if err != nil || !more {
			return fd, err
		}
		dir, name = fd, rest
	}
}

// inParent calls do with a descriptor of the directory that holds name and the
// name's last component. With write, do changes that directory: then it must
// not be the root itself, and SyncFS learns about the file system it is on.
func (o *OS) inParent(op, name string, write bool, do func(dir int, base string) error) error {
	if err := CheckName(name); err != nil {
		return o.fail(op, name, err)
	}
	if write && name == "." {
		return o.fail(op, name, fs.ErrInvalid)
	}
	dir, base := Split(name)
	fd := o.root
	if dir != "." {
		var err error
		if fd, err = o.openAt(dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			return o.fail(op, name, err)
		}
		defer unix.Close(fd)
		if write {
			if err := o.noteMount(fd); err != nil {
				return o.fail(op, name, err)
			}
		}
	}
	_, err := retry(func() (struct{}, error) { return struct{}{}, do(fd, base) })
	return o.fail(op, name, err)
}

// noteMount remembers a file system other than the root's for SyncFS, before
// anything is written to it.
func (o *OS) noteMount(dir int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil || st.Dev == o.dev {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.mounts[st.Dev]; ok || o.closed {
		return nil
	}
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	o.mounts[st.Dev] = fd
	return nil
}
