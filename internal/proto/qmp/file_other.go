//go:build !unix

package qmp

import (
	"errors"
	"net"
	"os"
)

func sendFile(net.Conn, *os.File, []byte) ([]byte, error) {
	return nil, errors.New("this system cannot hand a file over to QEMU")
}
