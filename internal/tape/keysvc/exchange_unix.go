//go:build unix

package keysvc

import (
	"encoding/json"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// exchange sends a request with a descriptor and reads the answer.
func exchange(conn *net.UnixConn, f *os.File, r request) ([]byte, error) {
	line, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if _, _, err := conn.WriteMsgUnix(append(line, '\n'), unix.UnixRights(int(f.Fd())), nil); err != nil {
		return nil, err
	}
	if err := conn.CloseWrite(); err != nil {
		return nil, err
	}
	return readLine(conn)
}
