package schedfs

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// process is the file system as one process sees it. Now, WillNeed, Close and
// StartWriteback are no points of choice: nobody else can notice them.
type process struct {
	*simdisk.Process
	s  *scheduler
	id int

	// guarded by s.mu
	live    bool
	running bool // a granted call is not finished
	killed  bool
	calls   int
	pending []*call
	refused map[string]bool // what to ask for again is of no use yet
}

var _ vfs.FS = (*process)(nil)

// yield waits until the call is granted.
func (p *process) yield(what string) error {
	s := p.s
	s.mu.Lock()
	if s.aborted != nil {
		s.mu.Unlock()
		return s.aborted
	}
	c := &call{what: what, grant: make(chan error, 1), blocked: p.refused[what]}
	p.pending = append(p.pending, c)
	s.mu.Unlock()
	s.changed()
	return <-c.grant
}

// finish ends a granted call. freed: a lock may be had now that was not before.
func (p *process) finish(what string, err error, freed bool) {
	s := p.s
	s.note(err)
	s.mu.Lock()
	p.running = false
	if errors.Is(err, vfs.ErrLocked) {
		p.refused[what] = true
		s.refusals++
	} else {
		s.refusals = 0
	}
	if freed {
		s.wake()
	}
	s.mu.Unlock()
	s.changed()
}

func (p *process) do(what string, call func() error) error { return p.doing(what, false, call) }

// doing is do for a call that may let others have a lock.
func (p *process) doing(what string, freeing bool, call func() error) error {
	if err := p.yield(what); err != nil {
		return err
	}
	err := call()
	p.finish(what, err, freeing)
	return err
}

// Open implements [vfs.FS].
func (p *process) Open(name string) (vfs.File, error) {
	return p.opened("open "+name, name, func() (vfs.File, error) { return p.Process.Open(name) })
}

// Create implements [vfs.FS].
func (p *process) Create(name string, perm fs.FileMode) (vfs.File, error) {
	return p.opened("create "+name, name, func() (vfs.File, error) { return p.Process.Create(name, perm) })
}

func (p *process) opened(what, name string, open func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := p.do(what, func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &file{File: f, p: p, name: name}, nil
}

// Mkdir implements [vfs.FS].
func (p *process) Mkdir(name string, perm fs.FileMode) error {
	return p.do("mkdir "+name, func() error { return p.Process.Mkdir(name, perm) })
}

// Rename implements [vfs.FS].
func (p *process) Rename(oldName, newName string) error {
	// A lock is on a file: under the new name there may be one without.
	return p.doing("rename "+oldName+" "+newName, true, func() error { return p.Process.Rename(oldName, newName) })
}

// Remove implements [vfs.FS].
func (p *process) Remove(name string) error {
	return p.doing("remove "+name, true, func() error { return p.Process.Remove(name) })
}

// ReadDir implements [vfs.FS].
func (p *process) ReadDir(name string) (list []vfs.DirEntry, err error) {
	err = p.do("readdir "+name, func() (err error) {
		list, err = p.Process.ReadDir(name)
		return err
	})
	return list, err
}

// Lstat implements [vfs.FS].
func (p *process) Lstat(name string) (info vfs.Info, err error) {
	err = p.do("lstat "+name, func() (err error) {
		info, err = p.Process.Lstat(name)
		return err
	})
	return info, err
}

// Touch implements [vfs.FS].
func (p *process) Touch(name string) error {
	return p.do("touch "+name, func() error { return p.Process.Touch(name) })
}

// SyncDir implements [vfs.FS].
func (p *process) SyncDir(name string) error {
	return p.do("syncdir "+name, func() error { return p.Process.SyncDir(name) })
}

// SyncFS implements [vfs.FS].
func (p *process) SyncFS() error { return p.do("syncfs", p.Process.SyncFS) }

// Usage implements [vfs.FS].
func (p *process) Usage() (u vfs.Usage, err error) {
	err = p.do("usage", func() (err error) {
		u, err = p.Process.Usage()
		return err
	})
	return u, err
}

// LockRange implements [vfs.FS].
func (p *process) LockRange(name string, off, length int64, mode vfs.LockMode) (vfs.Unlocker, error) {
	what := fmt.Sprintf("lockrange %s %d+%d %s", name, off, length, modeName(mode))
	var u vfs.Unlocker
	err := p.do(what, func() (err error) {
		u, err = p.Process.LockRange(name, off, length, mode)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &unlocker{u, p, name}, nil
}

func modeName(m vfs.LockMode) string {
	if m == vfs.Exclusive {
		return "exclusive"
	}
	return "shared"
}

type unlocker struct {
	u    vfs.Unlocker
	p    *process
	name string
}

// Unlock implements [vfs.Unlocker]. It works after an abort too, for deferred
// calls.
func (l *unlocker) Unlock() error {
	what := "unlock " + l.name
	if err := l.p.yield(what); err != nil {
		return l.u.Unlock()
	}
	err := l.u.Unlock()
	l.p.finish(what, err, true)
	return err
}

// file is an open file of a process.
type file struct {
	vfs.File
	p    *process
	name string
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(b []byte, off int64) (n int, err error) {
	err = f.p.do(fmt.Sprintf("read %s %d+%d", f.name, off, len(b)), func() (err error) {
		n, err = f.File.ReadAt(b, off)
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(b []byte, off int64) (n int, err error) {
	err = f.p.do(fmt.Sprintf("write %s %d+%d", f.name, off, len(b)), func() (err error) {
		n, err = f.File.WriteAt(b, off)
		return err
	})
	return n, err
}

// Write implements io.Writer.
func (f *file) Write(b []byte) (n int, err error) {
	err = f.p.do(fmt.Sprintf("write %s %d", f.name, len(b)), func() (err error) {
		n, err = f.File.Write(b)
		return err
	})
	return n, err
}

// Size implements [vfs.File].
func (f *file) Size() (n int64, err error) {
	err = f.p.do("size "+f.name, func() (err error) {
		n, err = f.File.Size()
		return err
	})
	return n, err
}

// Truncate implements [vfs.File].
func (f *file) Truncate(size int64) error {
	return f.p.do(fmt.Sprintf("truncate %s %d", f.name, size), func() error { return f.File.Truncate(size) })
}

// Sync implements [vfs.File].
func (f *file) Sync() error {
	return f.p.do("sync "+f.name, f.File.Sync)
}
