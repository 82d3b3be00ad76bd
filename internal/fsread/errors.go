package fsread

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrNotExist is a name that a directory lacks; it is fs.ErrNotExist.
var ErrNotExist = fs.ErrNotExist

// ErrNotDir is an operation of directories on something else.
var ErrNotDir = errors.New("not a directory")

// ErrNotRegular is an operation of files with content on something else.
var ErrNotRegular = errors.New("not a regular file")

// ErrNotSymlink is Readlink on something else.
var ErrNotSymlink = errors.New("not a symbolic link")

// ErrOther is what Open of a file system gives for an image that holds
// something else, or nothing.
var ErrOther = errors.New("not this file system")

// UnsupportedError is something that is whole, as far as can be seen, but not
// understood here. The restore machine may understand it.
type UnsupportedError struct {
	Layer string // "ext4", "gpt", "lvm"
	What  string // "feature encrypt", "RAID 10"
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not supported by the direct reader", e.Layer, e.What)
}

// Unsupported makes an [*UnsupportedError].
func Unsupported(layer, format string, args ...any) error {
	return &UnsupportedError{Layer: layer, What: fmt.Sprintf(format, args...)}
}

// CorruptError is bytes that contradict their format.
type CorruptError struct {
	Layer string
	What  string // with the place, as a user of the format's own tools knows it
}

func (e *CorruptError) Error() string { return e.Layer + ": damaged: " + e.What }

// Corrupt makes a [*CorruptError].
func Corrupt(layer, format string, args ...any) error {
	return &CorruptError{Layer: layer, What: fmt.Sprintf(format, args...)}
}

// IsCorrupt reports a [*CorruptError].
func IsCorrupt(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}
