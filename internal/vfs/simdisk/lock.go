package simdisk

import (
	"io/fs"
	"math"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// lock is one held lock.
type lock struct {
	p          *Process
	ino        uint64
	name       string
	dir        bool // on a directory; otherwise on [start, end) of a file
	start, end int64
	mode       vfs.LockMode
}

// LockDir implements [vfs.FS].
func (p *Process) LockDir(name string, mode vfs.LockMode, wait bool) (vfs.Unlocker, error) {
	if wait {
		return p.waitLockDir(name, mode)
	}
	try, err := p.BeginLockDir(name, mode)
	if err != nil {
		return nil, err
	}
	return try()
}

// BeginLockDir opens a directory as LockDir does and returns a function that
// tries to lock it without waiting. It lets a scheduler do the waiting.
func (p *Process) BeginLockDir(name string, mode vfs.LockMode) (try func() (vfs.Unlocker, error), err error) {
	d := p.d
	err = p.enter(false)
	defer d.mu.Unlock()
	var n *node
	if err == nil {
		n, err = d.directory(name)
	}
	if err != nil {
		return nil, fail("lock directory", name, err)
	}
	l := &lock{p: p, ino: n.ino, name: name, dir: true, mode: mode}
	return func() (vfs.Unlocker, error) {
		err := p.enter(false)
		defer d.mu.Unlock()
		if err == nil {
			err = d.acquire(l)
		}
		if err != nil {
			return nil, fail("lock directory", name, err)
		}
		return l, nil
	}, nil
}

func (p *Process) waitLockDir(name string, mode vfs.LockMode) (vfs.Unlocker, error) {
	d := p.d
	err := p.enter(false)
	defer d.mu.Unlock()
	var n *node
	if err == nil {
		n, err = d.directory(name)
	}
	if err != nil {
		return nil, fail("lock directory", name, err)
	}
	l := &lock{p: p, ino: n.ino, name: name, dir: true, mode: mode}
	for d.conflict(l) {
		d.changed.Wait()
		d.mu.Unlock()
		if err := p.enter(false); err != nil {
			return nil, fail("lock directory", name, err)
		}
	}
	if err := d.acquire(l); err != nil {
		return nil, fail("lock directory", name, err)
	}
	return l, nil
}

// LockRange implements [vfs.FS].
func (p *Process) LockRange(name string, off, length int64, mode vfs.LockMode) (vfs.Unlocker, error) {
	d := p.d
	err := p.enter(false)
	defer d.mu.Unlock()
	var n *node
	if err == nil && (off < 0 || length < 0) {
		err = fs.ErrInvalid
	}
	if err == nil {
		n, err = d.resolve(name)
	}
	if err == nil && !n.mode.IsRegular() {
		err = vfs.ErrNotRegular
	}
	if err != nil {
		return nil, fail("lock", name, err)
	}
	l := &lock{p: p, ino: n.ino, name: name, start: off, end: math.MaxInt64, mode: mode}
	if length > 0 && length < math.MaxInt64-off {
		l.end = off + length
	}
	if err := d.acquire(l); err != nil {
		return nil, fail("lock", name, err)
	}
	return l, nil
}

func (d *Disk) conflict(l *lock) bool {
	return slices.ContainsFunc(d.locks, func(h *lock) bool {
		return h.ino == l.ino && (h.mode == vfs.Exclusive || l.mode == vfs.Exclusive) &&
			(l.dir || h.start < l.end && l.start < h.end)
	})
}

func (d *Disk) acquire(l *lock) error {
	if d.conflict(l) {
		return vfs.ErrLocked
	}
	if l.dir { // still the directory of that name?
		if n, err := d.resolve(l.name); err != nil {
			return err
		} else if n.ino != l.ino {
			return fs.ErrNotExist
		}
	}
	d.locks = append(d.locks, l)
	return nil
}

// Unlock implements [vfs.Unlocker]. It works without power too.
func (l *lock) Unlock() error {
	d := l.p.d
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Contains(d.locks, l) {
		if l.p.killed {
			return fail("unlock", l.name, ErrKilled)
		}
		return fail("unlock", l.name, vfs.ErrClosed)
	}
	d.dropLocks(func(h *lock) bool { return h == l })
	return nil
}

func (d *Disk) dropLocks(which func(*lock) bool) {
	d.locks = slices.DeleteFunc(d.locks, which)
	d.changed.Broadcast()
}
