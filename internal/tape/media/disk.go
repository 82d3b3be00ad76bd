package media

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/keystore"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// disk is what media need of the directory of their state. Errors about a name
// that is not there wrap fs.ErrNotExist.
type disk interface {
	// Read returns the content of a small file.
	Read(name string) ([]byte, error)
	// Put gives a name another content, in one step and durable.
	Put(name string, content []byte) error
	// Open opens a log, and Create makes one, or makes it empty.
	Open(name string, write bool) (logFile, error)
	Create(name string) (logFile, error)
	// Rename and Remove are durable when they return.
	Rename(oldName, newName string) error
	Remove(name string) error
	Stat(name string) (vfs.Info, error)
	// Lock takes the exclusive lock of a lock file, and waits that long for it.
	Lock(ctx context.Context, name string, wait time.Duration) (unlock func() error, err error)
}

// logFile is an open catalog.
type logFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
	// Lock keeps others from changing the file, or from reading it while it is
	// changed, for a moment.
	Lock() (unlock func() error, err error)
}

const maxSmall = 64 << 20 // an inventory of 100 000 media

// osDisk is a directory of the system.
type osDisk struct{ dir string }

func (d osDisk) path(name string) string { return filepath.Join(d.dir, name) }

func (d osDisk) Read(name string) ([]byte, error) { return keystore.Read(d.path(name), maxSmall) }

func (d osDisk) Put(name string, content []byte) error {
	return keystore.Put(d.path(name), content, true, maxSmall, rand.Reader)
}

func (d osDisk) Open(name string, write bool) (logFile, error) {
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	f, err := os.OpenFile(d.path(name), flag, 0)
	if err != nil {
		return nil, err
	}
	return osLog{f}, nil
}

// Create makes the file for the owner of the directory, who may be somebody else
// than this process: a server whose tapes root labels.
func (d osDisk) Create(name string) (logFile, error) {
	err := d.with(func(v *vfs.OS) error {
		f, err := v.Create(name, 0o640)
		if err != nil {
			return err
		}
		return f.Close()
	})
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := d.Open(name, true)
	if err == nil {
		err = f.Truncate(0)
	}
	return f, err
}

func (d osDisk) Rename(oldName, newName string) error {
	return d.with(func(v *vfs.OS) error {
		if err := v.Rename(oldName, newName); err != nil {
			return err
		}
		return v.SyncDir(".")
	})
}

func (d osDisk) Remove(name string) error {
	return d.with(func(v *vfs.OS) error {
		if err := v.Remove(name); err != nil {
			return err
		}
		return v.SyncDir(".")
	})
}

func (d osDisk) Stat(name string) (info vfs.Info, err error) {
	err = d.with(func(v *vfs.OS) error {
		info, err = v.Lstat(name)
		return err
	})
	return info, err
}

func (d osDisk) Lock(ctx context.Context, name string, wait time.Duration) (func() error, error) {
	return confdir.New(d.dir).Lock(ctx, name, wait)
}

func (d osDisk) with(work func(*vfs.OS) error) error {
	v, err := vfs.OpenOS(d.dir)
	if err != nil {
		return err
	}
	return errors.Join(work(v), v.Close())
}

// osLog is an open file of the system.
type osLog struct{ *os.File }

func (f osLog) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osLog) Lock() (func() error, error) { return flock(f.File) }
