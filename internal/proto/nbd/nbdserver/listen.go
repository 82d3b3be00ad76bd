package nbdserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// MaxSocketPath is the longest path of a socket in bytes: the least of the
// systems' limits.
const MaxSocketPath = 103

// ListenUnix makes a unix socket that only its owner can use, and that is
// removed when it is closed. What is in the way is dealt with as [ClearSocket]
// says.
func ListenUnix(path string) (net.Listener, error) {
	if len(path) > MaxSocketPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, a socket's at most %d: use a shorter one, or a relative one", path, len(path), MaxSocketPath)
	}
	if err := ClearSocket(path); err != nil {
		return nil, err
	}
	var l net.Listener
	err := privately(func() (err error) {
		l, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}

// ClearSocket removes a socket that a server left behind which is gone. One
// that is served, and anything else of that name, is an error; nothing there is
// none.
func ClearSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("listen: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("listen on %s: %w, and it is no socket", path, fs.ErrExist)
	}
	c, err := net.Dial("unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("listen on %s: another server listens there", path)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("listen on %s: whether another server does cannot be found out: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}
