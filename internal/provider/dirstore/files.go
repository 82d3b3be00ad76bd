package dirstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// maxSmall is the length of the largest small file that is read.
const maxSmall = 16 << 20

// read reads a small file.
func (s *Store) read(name string) ([]byte, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("%s is longer than %d bytes", name, maxSmall)
	}
	return b, err
}

// write makes a new small file, durable but for its name.
func (s *Store) write(name string, content []byte) (err error) {
	f, err := s.fs.Create(name, fileMode)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, bytes.NewReader(content)); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// replace puts a small file in place, in one step, and makes it durable.
func (s *Store) replace(dir, name string, content []byte) error {
	temp := path.Join(dir, "."+name+".new")
	if err := s.remove(temp); err != nil {
		return err
	}
	err := s.write(temp, content)
	if err == nil {
		err = s.fs.Rename(temp, path.Join(dir, name))
	}
	if err != nil {
		return errors.Join(err, s.remove(temp))
	}
	return s.fs.SyncDir(dir)
}

// remove removes a file that may be gone.
func (s *Store) remove(name string) error {
	if err := s.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mkdir makes a directory that may be there, durably.
func (s *Store) mkdir(name string) error {
	err := s.fs.Mkdir(name, dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.fs.SyncDir(path.Dir(name))
}

// clear removes a directory with the files in it; there are no others below.
func (s *Store) clear(dir string) error {
	list, err := s.fs.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := s.remove(path.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	return s.remove(dir)
}

// Bytes of a guest's lock file.
const (
	chainByte  = 0
	makingByte = 1
)

// lock takes a byte of a guest's lock file. Where nothing can be written
// nobody else can either, so a shared lock is granted as it is.
func (s *Store) lock(id int, off int64, mode vfs.LockMode) (vfs.Unlocker, error) {
	name := path.Join(guestDir(id), lockFile)
	u, err := s.fs.LockRange(name, off, 1, mode)
	if errors.Is(err, fs.ErrNotExist) {
		f, cerr := s.fs.Create(name, fileMode)
		if cerr == nil {
			cerr = f.Close()
		}
		if cerr != nil && !errors.Is(cerr, fs.ErrExist) {
			err = cerr
		} else {
			u, err = s.fs.LockRange(name, off, 1, mode)
		}
	}
	if err == nil {
		return u, nil
	}
	if mode == vfs.Shared && (errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission)) {
		return noLock{}, nil
	}
	return nil, fmt.Errorf("lock the backups of guest %d: %w", id, err)
}

type noLock struct{}

func (noLock) Unlock() error { return nil }

// free releases a lock; after that it is of no interest how that went.
func (s *Store) free(u vfs.Unlocker) {
	if err := u.Unlock(); err != nil {
		s.o.Log.Warn("release a lock of the storage", "storage", s.o.Name, "error", err)
	}
}
