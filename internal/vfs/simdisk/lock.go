package simdisk

import (
	"io/fs"
	"math"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// lock is one held lock, on [start, end) of a file.
type lock struct {
	p          *Process
	ino        uint64
	name       string
	start, end int64
	mode       vfs.LockMode
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
	if d.conflict(l) {
		return nil, fail("lock", name, vfs.ErrLocked)
	}
	d.locks = append(d.locks, l)
	return l, nil
}

func (d *Disk) conflict(l *lock) bool {
	return slices.ContainsFunc(d.locks, func(h *lock) bool {
		return h.ino == l.ino && (h.mode == vfs.Exclusive || l.mode == vfs.Exclusive) &&
			h.start < l.end && l.start < h.end
	})
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
}
