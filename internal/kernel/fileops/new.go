package fileops

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// partSuffix ends the name that a file has until it is complete.
const partSuffix = ".holdfast-part"

// NewFile is a file that gets its name when it is complete. Until then it lies
// beside its place under a hidden name.
type NewFile struct {
	*os.File
	path string
	over bool // what has the name is replaced
	done bool
}

// Create makes a file for path that its owner alone may read. The name must be
// free, now and at the end: else the error wraps [fs.ErrExist].
func Create(path string) (*NewFile, error) {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return nil, &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return create(path)
}

// Replace is Create, but a file that has the name is replaced at the end.
func Replace(path string) (*NewFile, error) {
	n, err := create(path)
	if err == nil {
		n.over = true
	}
	return n, err
}

func create(path string) (*NewFile, error) {
	dir, base := filepath.Split(path)
	if base == "" || base == "." || base == ".." {
		return nil, &fs.PathError{Op: "create", Path: path, Err: errors.New("no name of a file")}
	}
	if len(base) > 100 {
		base = base[:100] // with the random part and the suffix it stays a legal name
	}
	if dir == "" {
		dir = "."
	}
	f, err := os.CreateTemp(dir, "."+base+".*"+partSuffix) // mode 0600
	if err != nil {
		return nil, err
	}
	return &NewFile{File: f, path: path}, nil
}

// Finish makes the content durable, then the name.
func (n *NewFile) Finish() error {
	if err := n.Sync(); err != nil {
		return err
	}
	if err := n.Close(); err != nil { // some systems do not rename an open file
		return err
	}
	rename := RenameNew
	if n.over {
		rename = os.Rename
	}
	if err := rename(n.Name(), n.path); err != nil {
		return fmt.Errorf("give %s its name: %w", n.path, err)
	}
	n.done = true
	if err := SyncDir(filepath.Dir(n.path)); err != nil {
		return fmt.Errorf("sync the directory of %s: %w", n.path, err)
	}
	return nil
}

// Drop removes the file, unless it has its name.
func (n *NewFile) Drop() {
	if !n.done {
		_ = n.Close() // it may be closed
		_ = os.Remove(n.Name())
	}
}
