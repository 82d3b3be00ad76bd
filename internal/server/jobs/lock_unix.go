//go:build unix

package jobs

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lock takes the lock of a job, and fails with ErrRunning if somebody has it. A lock
// file that was removed with its job meanwhile is made again.
func (d States) Lock(key string) (unlock func() error, err error) {
	for {
		f, err := os.OpenFile(d.lockPath(key), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o660)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s: %w", key, ErrRunning)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		has, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if is, err := os.Stat(d.lockPath(key)); err == nil && os.SameFile(has, is) {
			return f.Close, nil // which unlocks
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}
