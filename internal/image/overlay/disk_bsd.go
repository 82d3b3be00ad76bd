//go:build unix && !linux

package overlay

import (
	"errors"
	"os"
)

func dataSync(f *os.File) error { return f.Sync() }

func punch(*os.File, int64, int64) error { return errors.ErrUnsupported }

func renameNew(from, to string) error { return renamePortable(from, to) }
