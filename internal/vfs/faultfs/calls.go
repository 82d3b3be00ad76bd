package faultfs

import (
	"io/fs"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// whole adapts a call that cannot be done by half: then it is not done.
func whole(call func() error) func(bool) error {
	return func(short bool) error {
		if short {
			return nil
		}
		return call()
	}
}

// Open implements [vfs.FS].
func (f *FS) Open(name string) (vfs.File, error) {
	return f.opened(Open, name, func() (vfs.File, error) { return f.base.Open(name) })
}

// Create implements [vfs.FS].
func (f *FS) Create(name string, perm fs.FileMode) (vfs.File, error) {
	return f.opened(Create, name, func() (vfs.File, error) { return f.base.Create(name, perm) })
}

func (f *FS) opened(op Op, name string, open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.do(Call{Op: op, Name: name}, whole(func() (err error) {
		file, err = open()
		return err
	}))
	if err != nil {
		if file != nil { // opened, but nobody will know
			_ = file.Close()
		}
		return nil, err
	}
	return &openFile{File: file, fs: f, name: name}, nil
}

// Mkdir implements [vfs.FS].
func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	return f.do(Call{Op: Mkdir, Name: name}, whole(func() error { return f.base.Mkdir(name, perm) }))
}

// Rename implements [vfs.FS].
func (f *FS) Rename(oldName, newName string) error {
	return f.do(Call{Op: Rename, Name: oldName, NewName: newName}, whole(func() error { return f.base.Rename(oldName, newName) }))
}

// Remove implements [vfs.FS].
func (f *FS) Remove(name string) error {
	return f.do(Call{Op: Remove, Name: name}, whole(func() error { return f.base.Remove(name) }))
}

// ReadDir implements [vfs.FS].
func (f *FS) ReadDir(name string) (list []vfs.DirEntry, err error) {
	err = f.do(Call{Op: ReadDir, Name: name}, whole(func() (err error) {
		list, err = f.base.ReadDir(name)
		return err
	}))
	if err != nil {
		return nil, err
	}
	return list, nil
}

// Lstat implements [vfs.FS].
func (f *FS) Lstat(name string) (info vfs.Info, err error) {
	err = f.do(Call{Op: Lstat, Name: name}, whole(func() (err error) {
		info, err = f.base.Lstat(name)
		return err
	}))
	if err != nil {
		return vfs.Info{}, err
	}
	return info, nil
}

// Touch implements [vfs.FS].
func (f *FS) Touch(name string) error {
	return f.do(Call{Op: Touch, Name: name}, whole(func() error { return f.base.Touch(name) }))
}

// SyncDir implements [vfs.FS].
func (f *FS) SyncDir(name string) error {
	return f.do(Call{Op: SyncDir, Name: name}, whole(func() error { return f.base.SyncDir(name) }))
}

// SyncFS implements [vfs.FS].
func (f *FS) SyncFS() error {
	return f.do(Call{Op: SyncFS, Name: "."}, whole(f.base.SyncFS))
}

// LockRange implements [vfs.FS].
func (f *FS) LockRange(name string, off, length int64, mode vfs.LockMode) (vfs.Unlocker, error) {
	var u vfs.Unlocker
	err := f.do(Call{Op: LockRange, Name: name}, whole(func() (err error) {
		u, err = f.base.LockRange(name, off, length, mode)
		return err
	}))
	if err != nil {
		if u != nil {
			_ = u.Unlock()
		}
		return nil, err
	}
	return &heldLock{u: u, fs: f, name: name}, nil
}

// WillNeed implements [vfs.FS].
func (f *FS) WillNeed(name string) { f.base.WillNeed(name) }

// Now implements [vfs.FS].
func (f *FS) Now() time.Time { return f.base.Now() }

// Usage implements [vfs.FS].
func (f *FS) Usage() (u vfs.Usage, err error) {
	err = f.do(Call{Op: Usage, Name: "."}, whole(func() (err error) {
		u, err = f.base.Usage()
		return err
	}))
	if err != nil {
		return vfs.Usage{}, err
	}
	return u, nil
}

type heldLock struct {
	u    vfs.Unlocker
	fs   *FS
	name string
}

// Unlock implements [vfs.Unlocker].
func (l *heldLock) Unlock() error {
	return l.fs.do(Call{Op: Unlock, Name: l.name}, whole(l.u.Unlock))
}

// openFile is an open file; StartWriteback is that of the file below.
type openFile struct {
	vfs.File
	fs   *FS
	name string
}

// ReadAt implements io.ReaderAt.
func (o *openFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = o.fs.do(Call{Op: Read, Name: o.name}, whole(func() (err error) {
		n, err = o.File.ReadAt(p, off)
		return err
	}))
	return n, err
}

// WriteAt implements io.WriterAt.
func (o *openFile) WriteAt(p []byte, off int64) (int, error) {
	return o.write(p, func(p []byte) (int, error) { return o.File.WriteAt(p, off) })
}

// Write implements io.Writer.
func (o *openFile) Write(p []byte) (int, error) { return o.write(p, o.File.Write) }

func (o *openFile) write(p []byte, write func([]byte) (int, error)) (n int, err error) {
	err = o.fs.do(Call{Op: Write, Name: o.name}, func(short bool) (err error) {
		if short {
			p = p[:len(p)/2]
		}
		n, err = write(p)
		return err
	})
	return n, err
}

// Size implements [vfs.File].
func (o *openFile) Size() (n int64, err error) {
	err = o.fs.do(Call{Op: Size, Name: o.name}, whole(func() (err error) {
		n, err = o.File.Size()
		return err
	}))
	return n, err
}

// Truncate implements [vfs.File].
func (o *openFile) Truncate(size int64) error {
	return o.fs.do(Call{Op: Truncate, Name: o.name}, whole(func() error { return o.File.Truncate(size) }))
}

// Sync implements [vfs.File].
func (o *openFile) Sync() error {
	return o.fs.do(Call{Op: Sync, Name: o.name}, whole(o.File.Sync))
}

// Close implements io.Closer. A failing close closes, as the kernel's does.
func (o *openFile) Close() error {
	var real error
	err := o.fs.do(Call{Op: Close, Name: o.name}, func(bool) error { real = o.File.Close(); return real })
	if err != nil && real == nil {
		_ = o.File.Close()
	}
	return err
}
