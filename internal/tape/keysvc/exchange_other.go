//go:build !unix

package keysvc

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// exchange is not possible on this system.
func exchange(*net.UnixConn, *os.File, request) ([]byte, error) {
	return nil, fmt.Errorf("descriptors cannot be handed over: %w", errors.ErrUnsupported)
}
