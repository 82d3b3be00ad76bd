package datastore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// tempName is a name beside target for a file in the making. PBS ignores and
// keeps such names; ours are cleared away with their directory.
func (s *Store) tempName(target string) (string, error) {
	var id [6]byte
	if _, err := io.ReadFull(s.opt.Rand, id[:]); err != nil {
		return "", fmt.Errorf("name a temporary file: %w", err)
	}
	return target + ".tmp_" + hex.EncodeToString(id[:]), nil
}

// replaceFile puts content at name in one step. With sync the content is
// durable before the name is, and the name before replaceFile returns.
func (s *Store) replaceFile(name string, content []byte, sync bool) (err error) {
	tmp, err := s.tempName(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // even after a failed Create: the answer may have been lost
			err = errors.Join(err, ignoreMissing(s.fs.Remove(tmp)))
		}
	}()
	f, err := s.fs.Create(tmp, filePerm)
	if err != nil {
		return err
	}
	if err := writeFile(f, content, sync); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, name); err != nil {
		return err
	}
	if sync {
		return s.fs.SyncDir(path.Dir(name))
	}
	return nil
}

// writeFile fills and closes f.
func writeFile(f vfs.File, content []byte, sync bool) error {
	_, err := f.Write(content)
	if err == nil && sync {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// readFile returns the whole of a file of at most most bytes, appended to buf[:0].
func (s *Store) readFile(name string, buf []byte, most int64) ([]byte, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := readAll(f, name, buf, most)
	if cerr := f.Close(); err == nil && cerr != nil {
		return nil, cerr
	}
	return b, err
}

func readAll(f vfs.File, name string, buf []byte, most int64) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d expected", name, errTooLong, size, most)
	}
	if int64(cap(buf)) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	n, err := f.ReadAt(buf, 0)
	if errors.Is(err, io.EOF) {
		err = nil // shorter than a moment ago: the caller's checks decide
	}
	return buf[:n], err
}

var errTooLong = errors.New("file too long")

func exists(fsys vfs.FS, name string) (bool, error) {
	_, err := fsys.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
