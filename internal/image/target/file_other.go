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

func startWriteback(*os.File) {}

func claim(*os.File) error { return nil }
