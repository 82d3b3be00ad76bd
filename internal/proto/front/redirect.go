package front

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// redirect answers a request that came without TLS, and ends the connection:
// nothing that was asked in the clear is done.
func (c *Conn) redirect() error {
	head, err := readHead(c.raw)
	if err != nil {
		return err
	}
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	answer := "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
	if err == nil && r.Host != "" {
		status := http.StatusPermanentRedirect
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			status = http.StatusMovedPermanently
		}
		answer = fmt.Sprintf("HTTP/1.1 %d %s\r\nLocation: https://%s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
			status, http.StatusText(status), r.Host)
	}
	if _, err := io.WriteString(c.raw, answer); err != nil {
		return err
	}
	_ = c.raw.Close()
	return io.EOF
}
