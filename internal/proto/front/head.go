package front

import (
	"bytes"
	"strings"
)

// hostLine names no host: nobody looks at it.
const hostLine = "Host: localhost\r\n"

// mend returns the beginning of a connection with a Host header in its first
// head, if that is the complete head of an HTTP/1.1 request without one; else b
// as it is.
func mend(b []byte) []byte {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok || !strings.HasSuffix(strings.TrimSuffix(string(line), "\r"), " HTTP/1.1") {
		return b
	}
	for {
		field, next, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return b
		}
		if len(bytes.TrimSuffix(field, []byte("\r"))) == 0 {
			break
		}
		// Something that begins like the header is left to net/http to judge.
		if len(field) >= 4 && strings.EqualFold(string(field[:4]), "host") {
			return b
		}
		rest = next
	}
	at := len(line) + 1
	out := make([]byte, 0, len(b)+len(hostLine))
	out = append(out, b[:at]...)
	out = append(out, hostLine...)
	return append(out, b[at:]...)
}
