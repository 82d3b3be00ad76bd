package keystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Save makes a file at a path where none may be, in a directory that exists;
// see [Store.Save].
func Save(path string, content []byte, rand io.Reader) error {
	dir, base := filepath.Split(path)
	return at(dir, rand, func(s Store) error { return s.Save(base, content) })
}

// SaveShared is the same for a file that the group of its directory may read.
func SaveShared(path string, content []byte, rand io.Reader) error {
	dir, base := filepath.Split(path)
	return at(dir, rand, func(s Store) error { return s.SaveShared(base, content) })
}

// Replace gives the file that a path leads to another content; see
// [Store.Replace].
func Replace(path string, content []byte, rand io.Reader) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	dir, base := filepath.Split(path)
	return at(dir, rand, func(s Store) error { return s.Replace(base, content) })
}

// MakeDir makes a directory and those above it; see [Store.MakeDir].
func MakeDir(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	there := path
	for {
		if _, err := os.Stat(there); err == nil {
			break
		} else if above := filepath.Dir(there); !errors.Is(err, fs.ErrNotExist) || above == there {
			return err
		} else {
			there = above
		}
	}
	name, err := filepath.Rel(there, path)
	if err != nil {
		return err
	}
	return at(there, nil, func(s Store) error { return s.MakeDir(filepath.ToSlash(name)) })
}

// Load reads a file of at most MaxSize bytes, wherever links lead and whatever
// kind of file gives the bytes.
func Load(path string) ([]byte, error) { return Read(path, MaxSize) }

// Read is the same for a file of at most max bytes.
func Read(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, %w", path, vfs.ErrNotRegular)
	}
	return readAll(path, f, max)
}

// Put gives the file that a path leads to another content of up to max bytes, or
// makes it; see [Store.Put].
func Put(path string, content []byte, shared bool, max int, rand io.Reader) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, base := filepath.Split(path)
	return at(dir, rand, func(s Store) error { return s.Limited(max).Put(base, content, shared) })
}

// at works in one directory.
func at(dir string, rand io.Reader, work func(Store) error) error {
	dir, err := filepath.EvalSymlinks(filepath.Clean(dir))
	if err != nil {
		return err
	}
	v, err := vfs.OpenOS(dir)
	if err != nil {
		return err
	}
	v.KeepOwner() // a key that root makes in somebody's directory is root's
	err = work(New(&osDisk{v}, rand))
	return errors.Join(err, v.Close())
}

// osDisk is the system's file system.
type osDisk struct{ *vfs.OS }

var _ Disk = (*osDisk)(nil)

func (d *osDisk) path(name string) string { return filepath.Join(d.Dir(), filepath.FromSlash(name)) }

// Claim implements [Disk]. A hard link fails if the name exists, unlike a
// rename; where there are none, another program could take the name between
// the look and the rename.
func (d *osDisk) Claim(oldName, newName string) error {
	err := os.Link(d.path(oldName), d.path(newName))
	switch {
	case err == nil:
		_ = d.Remove(oldName) // if it stays, it is swept later
		return nil
	case errors.Is(err, fs.ErrExist):
		return err
	}
	if _, err := d.Lstat(newName); err == nil {
		return &fs.PathError{Op: "create", Path: d.path(newName), Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.Rename(oldName, newName)
}
