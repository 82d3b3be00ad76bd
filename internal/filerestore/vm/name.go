package vm

import (
	"fmt"
	"strings"
)

// Name is a machine's: that of a systemd unit for its snapshot.
func Name(repository, namespace, snapshot string) string {
	s := "qemu_" + repository
	if namespace != "" {
		s += ":" + namespace
	}
	return escape(s + "/" + snapshot)
}

// escape is systemd's, for what is no path.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '/':
			b.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
