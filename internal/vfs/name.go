package vfs

import (
	"errors"
	"io/fs"
	"strings"
)

// ErrNotRegular is wrapped when a directory, symbolic link or device is where
// a regular file should be.
var ErrNotRegular = errors.New("not a regular file")

// ErrClosed is wrapped when a lock is released twice.
var ErrClosed = fs.ErrClosed

// CheckName says whether name is a legal name for an [FS]; its error wraps
// fs.ErrInvalid. Bytes that are no UTF-8 are allowed: a foreign file in a
// datastore may have such a name, and one must be able to look at it.
func CheckName(name string) error {
	if name == "." {
		return nil
	}
	if strings.IndexByte(name, 0) >= 0 {
		return fs.ErrInvalid
	}
	for rest := name; ; {
		part, after, more := strings.Cut(rest, "/")
		if part == "" || part == "." || part == ".." {
			return fs.ErrInvalid
		}
		if !more {
			return nil
		}
		rest = after
	}
}

// Split cuts a checked name into its directory and last component.
func Split(name string) (dir, base string) {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i], name[i+1:]
	}
	return ".", name
}
