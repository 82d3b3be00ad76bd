//go:build linux || darwin || freebsd

package vfs

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func addSystemInfo(info *Info, st fs.FileInfo) {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		info.Inode = sys.Ino
		info.Blocks = sys.Blocks * 512
		info.Atime = accessTime(sys)
	}
}

func diskUsage(dir string) (Usage, error) {
	var st unix.Statfs_t
	if _, err := retry(func() (int, error) { return 0, unix.Statfs(dir, &st) }); err != nil {
		return Usage{}, err
	}
	unit := uint64(st.Bsize)
	return Usage{
		Total: st.Blocks * unit, Used: (st.Blocks - st.Bfree) * unit,
		Available: uint64(max(0, int64(st.Bavail))) * unit,
	}, nil
}

func syncOpenDir(d *os.File) error { return d.Sync() }

// rangeLocks keeps the record locks of this process. The system knows only one
// owner per process, so conflicts within it are found here; and it drops all
// locks of a file when any descriptor of it is closed, so that files with locks
// are closed only after the last lock is gone. That works for what goes through
// one FS value: do not open two of them on one directory.
type rangeLocks struct {
	mu    sync.Mutex
	files []*lockedFile
}

type lockedFile struct {
	info   fs.FileInfo
	f      *os.File
	held   []*byteRange
	parked []*os.File // closed by their users
}

type byteRange struct {
	start, end int64
	mode       LockMode
}

func (r *rangeLocks) find(info fs.FileInfo) *lockedFile {
	for _, l := range r.files {
		if os.SameFile(l.info, info) {
			return l
		}
	}
	return nil
}

// close closes a file, at once or after the last lock on it.
func (r *rangeLocks) close(f *os.File) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.files) > 0 {
		if info, err := f.Stat(); err == nil {
			if l := r.find(info); l != nil {
				l.parked = append(l.parked, f)
				return nil
			}
		}
	}
	return f.Close()
}

func (r *rangeLocks) lock(p *portable, name string, off, length int64, mode LockMode) (release func() error, err error) {
	b := &byteRange{off, math.MaxInt64, mode}
	if length > 0 && length < math.MaxInt64-off {
		b.end = off + length
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	l, err := r.file(p, name)
	if err != nil {
		return nil, err
	}
	for _, h := range l.held {
		if h.start < b.end && b.start < h.end && (h.mode == Exclusive || b.mode == Exclusive) {
			return nil, errors.Join(ErrLocked, r.drop(l))
		}
	}
	kind := int16(unix.F_RDLCK)
	if mode == Exclusive {
		kind = unix.F_WRLCK
	}
	if err := l.set(kind, b.start, b.end); err != nil {
		return nil, errors.Join(lockError(err), r.drop(l))
	}
	l.held = append(l.held, b)
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		l.held = slices.DeleteFunc(l.held, func(h *byteRange) bool { return h == b })
		return errors.Join(l.free(b.start, b.end), r.drop(l))
	}, nil
}

// file is the entry of a file, opened for locking.
func (r *rangeLocks) file(p *portable, name string) (*lockedFile, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	info, err := p.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	if l := r.find(info); l != nil {
		return l, nil
	}
	f, err := p.root.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		f, err = p.root.OpenFile(name, os.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(ErrNotRegular, err, f.Close())
	}
	l := &lockedFile{info: info, f: f}
	r.files = append(r.files, l)
	return l, nil
}

// drop closes a file without locks.
func (r *rangeLocks) drop(l *lockedFile) error {
	if len(l.held) > 0 {
		return nil
	}
	r.files = slices.DeleteFunc(r.files, func(o *lockedFile) bool { return o == l })
	err := l.f.Close()
	for _, f := range l.parked {
		err = errors.Join(err, f.Close())
	}
	return err
}

// free unlocks what no other lock covers.
func (l *lockedFile) free(start, end int64) error {
	for _, h := range l.held {
		if h.start < end && start < h.end {
			var err error
			if start < h.start {
				err = l.free(start, h.start)
			}
			if h.end < end {
				err = errors.Join(err, l.free(h.end, end))
			}
			return err
		}
	}
	return l.set(unix.F_UNLCK, start, end)
}

func (l *lockedFile) set(kind int16, start, end int64) error {
	lock := unix.Flock_t{Type: kind, Start: start, Len: end - start}
	if end == math.MaxInt64 {
		lock.Len = 0
	}
	_, err := retry(func() (int, error) { return 0, unix.FcntlFlock(l.f.Fd(), unix.F_SETLK, &lock) })
	return err
}

func lockError(err error) error {
	switch err {
	case unix.EAGAIN, unix.EACCES:
		return ErrLocked
	case unix.EBADF, unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
		return &noLocks{err}
	}
	return err
}

// retry repeats a system call that a signal interrupted.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != syscall.EINTR {
			return v, err
		}
	}
}
