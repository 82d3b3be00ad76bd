//go:build !linux

package fileops

import (
	"errors"
	"os"
)

// RenameNew gives a file a name that must be free; else the error wraps
// fs.ErrExist.
func RenameNew(from, to string) error { return renamePortable(from, to) }

// Punch is not to be had here.
func Punch(*os.File, int64, int64) error { return errors.ErrUnsupported }
