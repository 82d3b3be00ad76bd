// Package fileops is what files and directories can do beyond package os:
// take a name only if it is free, or only when they are complete, release a
// range, stay sparse, and have a directory's names made durable. Where a system
// lacks one, the comment of the function says what happens instead.
package fileops

import (
	"errors"
	"io/fs"
	"os"
)

// renamePortable gives a file a name that must be free. A file system without
// hard links leaves a moment in which a file that appears is replaced.
func renamePortable(from, to string) error {
	err := os.Link(from, to)
	switch {
	case err == nil:
		return os.Remove(from)
	case errors.Is(err, fs.ErrExist):
		return err
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return err
	}
	return os.Rename(from, to)
}
