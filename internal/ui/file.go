package ui

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Path shows a file name or path without loss, as tar does: a backslash is
// doubled, a line feed, tab or return is \n, \t or \r, and every other byte that
// is not part of a printable character is a backslash and three octal digits.
func Path(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == utf8.RuneError && n == 1 || !unicode.IsPrint(r):
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\%03o`, c)
			}
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// isPlain reports whether s is nothing but printable ASCII without backslash,
// as nearly all names are.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// Mode shows a mode as ls does: "-rwxr-xr-x".
func Mode(mode uint32) string {
	b := []byte("?rwxrwxrwx")
	switch mode & pxar.ModeType {
	case pxar.ModeSocket:
		b[0] = 's'
	case pxar.ModeSymlink:
		b[0] = 'l'
	case pxar.ModeFile:
		b[0] = '-'
	case pxar.ModeBlockDevice:
		b[0] = 'b'
	case pxar.ModeDirectory:
		b[0] = 'd'
	case pxar.ModeCharDevice:
		b[0] = 'c'
	case pxar.ModeFIFO:
		b[0] = 'p'
	}
	for i := range 9 {
		if mode&(0o400>>i) == 0 {
			b[1+i] = '-'
		}
	}
	for i, special := range [...]struct {
		bit  uint32
		with byte // execute permission
	}{{0o4000, 's'}, {0o2000, 's'}, {0o1000, 't'}} {
		if mode&special.bit == 0 {
			continue
		}
		at := 3 + 3*i
		if b[at] == '-' {
			b[at] = special.with - 'a' + 'A'
		} else {
			b[at] = special.with
		}
	}
	return string(b)
}
