//go:build !linux && !windows

package target

import (
	"errors"
	"os"
	"syscall"
)

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func isBusy(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ETXTBSY)
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }

// sparse needs nothing: what is not written is a hole.
func sparse(*os.File) error { return nil }

func startWriteback(*os.File) {}

func punchFile(*os.File, int64, int64) error { return errors.ErrUnsupported }

func renameNew(from, to string) error { return renamePortable(from, to) }

func claim(*os.File) error { return nil }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}
