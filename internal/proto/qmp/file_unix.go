//go:build unix

package qmp

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// sendFile writes the beginning of b together with f and returns what is left
// of b.
func sendFile(conn net.Conn, f *os.File, b []byte) ([]byte, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("a file can only be handed over through a unix socket")
	}
	n, _, err := u.WriteMsgUnix(b, unix.UnixRights(int(f.Fd())), nil)
	return b[n:], err
}
