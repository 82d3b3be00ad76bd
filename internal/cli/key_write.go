package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/holdfast-backup/holdfast/internal/keystore"
)

// saveKey makes a key file where none is.
func (a *app) saveKey(path string, text []byte) error {
	err := keystore.Save(path, text, a.Rand)
	if errors.Is(err, fs.ErrExist) {
		return existing(path)
	}
	return notWritten(path, "was not written", err)
}

// replaceKey gives a key file another content.
func (a *app) replaceKey(path string, text []byte) error {
	return notWritten(path, "is as it was, it could not be replaced", keystore.Replace(path, text, a.Rand))
}

// existing refuses to overwrite a key.
func existing(path string) error {
	return hint(fmt.Errorf("%s exists already and is left alone", path), "name another file, or move that one away if nothing needs it")
}

// notWritten says in one sentence what became of a key file, and what to do.
func notWritten(path, outcome string, err error) error {
	if err == nil {
		return nil
	}
	reason := cause(err)
	if errors.Is(err, keystore.ErrUnsure) {
		return hint(
			fmt.Errorf("%s was written, but the disk did not confirm it: %w", path, reason),
			"a power failure may still undo it: check the disk, and copy the file to another one before you rely on it",
		)
	}
	err = fmt.Errorf("%s %s: %w", path, outcome, reason)
	switch {
	case isAny(err, syscall.ENOSPC, syscall.EDQUOT):
		return hint(err, "make room on that disk and run the command again")
	case errors.Is(err, syscall.EROFS):
		return hint(err, "make that disk writable, or name a file on another one")
	case errors.Is(err, fs.ErrPermission):
		return hint(err, "run the command as the owner of the file and its directory, or name a file elsewhere")
	case errors.Is(err, fs.ErrNotExist):
		return hint(err, "make the directory first, or check the path")
	case errors.Is(err, syscall.EIO):
		return hint(err, "check the disk, or name a file on another one")
	}
	return err
}

// cause is an error without the system call and path that it came from.
func cause(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}
