package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// OS is the kernel's file system below one directory. Every call starts at a
// descriptor of that directory and never passes through a symbolic link, so
// that neither a renamed parent nor a planted link leads elsewhere.
type OS struct {
	dir      string
	root     int
	dev      uint64
	noBelow2 bool // openat2 is missing or forbidden here
	heir     *ids // whom new files are given to; nil: they stay with who makes them

	mu      sync.Mutex
	mounts  map[uint64]int // other file systems mounted below root that were written to
	syncErr error          // see SyncFS
	closed  bool
}

var _ FS = (*OS)(nil)

// OpenOS opens the file system below dir, which must be an existing directory.
func OpenOS(dir string) (*OS, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	fd, err := retry(func() (int, error) {
		return unix.Open(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: abs, Err: err}
	}
	o := &OS{dir: abs, root: fd, mounts: map[uint64]int{}}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "stat", Path: abs, Err: err}
	}
	o.dev = st.Dev
	if unix.Geteuid() == 0 && st.Uid != 0 {
		o.heir = &ids{int(st.Uid), int(st.Gid)}
	}
	probe, err := unix.Openat2(fd, ".", o.how(unix.O_PATH|unix.O_DIRECTORY, 0))
	if err == nil {
		_ = unix.Close(probe)
	}
	o.noBelow2 = err != nil
	return o, nil
}

// Dir is the absolute path of the root.
func (o *OS) Dir() string { return o.dir }

// Close releases the descriptor of the root. Files and locks stay valid.
func (o *OS) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return o.fail("close", ".", fs.ErrClosed)
	}
	o.closed = true
	for _, fd := range o.mounts {
		_ = unix.Close(fd)
	}
	fd := o.root
	o.root = -1
	return o.fail("close", ".", unix.Close(fd))
}

// Open implements [FS].
func (o *OS) Open(name string) (File, error) { return o.open(name, unix.O_RDONLY) }

// OpenWrite is Open for reading and writing. It is not in [FS] because a
// datastore changes no file in place; others do, and sync what they changed by
// File.Sync.
func (o *OS) OpenWrite(name string) (File, error) { return o.open(name, unix.O_RDWR) }

func (o *OS) open(name string, access int) (File, error) {
	// O_NONBLOCK: opening a FIFO must not wait for its writer.
	fd, err := o.openAt(name, access|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, unix.ELOOP) {
			err = fmt.Errorf("%w: %w", ErrNotRegular, err)
		}
		return nil, o.fail("open", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return nil, o.fail("open", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		_ = unix.Close(fd)
		return nil, o.fail("open", name, ErrNotRegular)
	}
	return &file{os.NewFile(uintptr(fd), o.path(name))}, nil
}

// Create implements [FS].
func (o *OS) Create(name string, perm fs.FileMode) (File, error) {
	var f File
	err := o.inParent("create", name, true, func(dir int, base string) error {
		fd, err := retry(func() (int, error) {
			return unix.Openat(dir, base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(perm.Perm()))
		})
		if err != nil {
			return err
		}
		if err := errors.Join(o.bequeath(dir, base), exactMode(fd, perm)); err != nil {
			_ = unix.Close(fd)
			_ = unix.Unlinkat(dir, base, 0)
			return err
		}
		f = &file{os.NewFile(uintptr(fd), o.path(name))}
		return nil
	})
	return f, err
}

// Mkdir implements [FS].
func (o *OS) Mkdir(name string, perm fs.FileMode) error {
	return o.inParent("mkdir", name, true, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, uint32(perm.Perm())); err != nil {
			return err
		}
		if err := o.bequeath(dir, base); err != nil {
			return err
		}
		var st unix.Stat_t
		err := unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err != nil || st.Mode&0o777 == uint32(perm.Perm()) {
			return err
		}
		fd, err := retry(func() (int, error) {
			return unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return err
		}
		return errors.Join(exactMode(fd, perm), unix.Close(fd))
	})
}

// Rename implements [FS].
func (o *OS) Rename(oldName, newName string) error {
	err := o.inParent("rename", oldName, true, func(oldDir int, oldBase string) error {
		return o.inParent("rename", newName, true, func(newDir int, newBase string) error {
			return unix.Renameat(oldDir, oldBase, newDir, newBase)
		})
	})
	if err == nil {
		return nil
	}
	for inner, ok := err.(*fs.PathError); ok; inner, ok = err.(*fs.PathError) {
		err = inner.Err
	}
	return &os.LinkError{Op: "rename", Old: o.path(oldName), New: o.path(newName), Err: err}
}

// Remove implements [FS].
func (o *OS) Remove(name string) error {
	return o.inParent("remove", name, true, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err != unix.EISDIR && err != unix.EPERM {
			return err
		}
		if derr := unix.Unlinkat(dir, base, unix.AT_REMOVEDIR); derr != unix.ENOTDIR {
			return derr
		}
		return err
	})
}

// Lstat implements [FS].
func (o *OS) Lstat(name string) (Info, error) {
	var st unix.Stat_t
	err := o.inParent("lstat", name, false, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return Info{}, err
	}
	return Info{
		Mode:   typeOf(st.Mode) | fs.FileMode(st.Mode&0o777),
		Size:   st.Size,
		Inode:  st.Ino,
		Atime:  time.Unix(st.Atim.Unix()),
		Mtime:  time.Unix(st.Mtim.Unix()),
		Blocks: st.Blocks * 512,
	}, nil
}

// Touch implements [FS].
func (o *OS) Touch(name string) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_NOW}, {Nsec: unix.UTIME_OMIT}}
	return o.inParent("touch", name, false, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// SyncDir implements [FS].
func (o *OS) SyncDir(name string) error {
	fd, err := o.openAt(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return o.fail("sync directory", name, err)
	}
	_, err = retry(func() (int, error) { return 0, unix.Fsync(fd) })
	return o.fail("sync directory", name, errors.Join(err, unix.Close(fd)))
}

// SyncFS implements [FS]. The kernel reports a failed write-back only once, so
// a failure is remembered: every later call fails too, because nobody can tell
// whose bytes were lost. Opening the file system again starts afresh.
func (o *OS) SyncFS() error {
	o.mu.Lock()
	fds, err := []int{o.root}, o.syncErr
	for _, fd := range o.mounts {
		fds = append(fds, fd)
	}
	o.mu.Unlock()
	for _, fd := range fds {
		if err == nil {
			_, err = retry(func() (int, error) { return 0, unix.Syncfs(fd) })
		}
	}
	if err == nil {
		return nil
	}
	o.mu.Lock()
	o.syncErr = err
	o.mu.Unlock()
	return o.fail("sync file system", ".", err)
}

// WillNeed implements [FS]. The kernel fetches no more at one call than it
// would send to the disk as one request, so the file is named piece by piece.
func (o *OS) WillNeed(name string) {
	fd, err := o.openAt(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	const piece = 256 << 10
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	for off := int64(0); err == nil && off < st.Size; off += piece {
		err = unix.Fadvise(fd, off, piece, unix.FADV_WILLNEED)
	}
	_ = unix.Close(fd)
}

// Now implements [FS].
func (o *OS) Now() time.Time { return time.Now() }

// Usage implements [FS].
func (o *OS) Usage() (Usage, error) {
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Fstatfs(o.root, &st) }); err != nil {
		return Usage{}, o.fail("usage", ".", err)
	}
	unit := uint64(st.Frsize)
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	return Usage{Total: st.Blocks * unit, Used: (st.Blocks - st.Bfree) * unit, Available: st.Bavail * unit}, nil
}

func (o *OS) path(name string) string { return filepath.Join(o.dir, filepath.FromSlash(name)) }

func (o *OS) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: o.path(name), Err: err}
}

// file is an open regular file.
type file struct{ *os.File }

// Size implements [File].
func (f *file) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// StartWriteback implements [File].
func (f *file) StartWriteback() {
	rc, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = rc.Control(func(fd uintptr) {
		_ = unix.SyncFileRange(int(fd), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// ids are a user and a group.
type ids struct{ uid, gid int }

// KeepOwner lets what root makes stay root's. Call it before anything is made.
func (o *OS) KeepOwner() { o.heir = nil }

// bequeath gives a new name to the owner of the root directory. So root may
// write to the datastore of a server that runs as another user, and that
// server can still manage what was written.
func (o *OS) bequeath(dir int, base string) error {
	if o.heir == nil {
		return nil
	}
	return unix.Fchownat(dir, base, o.heir.uid, o.heir.gid, unix.AT_SYMLINK_NOFOLLOW)
}

// exactMode undoes what umask or a default ACL did to the permissions.
func exactMode(fd int, perm fs.FileMode) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&0o777 == uint32(perm.Perm()) {
		return nil
	}
	return unix.Fchmod(fd, st.Mode&0o7000|uint32(perm.Perm()))
}

func typeOf(mode uint32) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	case unix.S_IFCHR:
		return fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFBLK:
		return fs.ModeDevice
	}
	return fs.ModeIrregular
}
