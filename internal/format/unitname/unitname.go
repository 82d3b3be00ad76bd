// Package unitname escapes texts the way systemd escapes unit names. Proxmox
// Backup Server uses that form for the names of lock files and for the worker
// id inside a task's UPID.
//
// # Form
//
// A '/' becomes '-'. Every byte outside [A-Za-z0-9_.], and a '.' at the very
// start, becomes \xNN with two lower-case hex digits. [EscapePath] drops
// leading slashes first and writes an empty path as "-"; [Escape] keeps them.
// The escaped text holds no '/', no ':' and no white space.
//
// # Source
//
// systemd.unit(5), section "String escaping for inclusion in unit names";
// proxmox-rs: proxmox-systemd/src/escape.rs.
package unitname

import (
	"errors"
	"fmt"
	"strings"
)

// ErrFormat is wrapped by Unescape for texts that Escape cannot have made.
var ErrFormat = errors.New("not an escaped unit name")

const hexDigits = "0123456789abcdef"

// Escape escapes s; Unescape is its inverse.
func Escape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '/':
			b.WriteByte('-')
		case literal(c) && (c != '.' || i > 0):
			b.WriteByte(c)
		default:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

// EscapePath escapes a path without its leading slashes.
func EscapePath(p string) string {
	p = strings.TrimLeft(p, "/")
	if p == "" {
		return "-"
	}
	return Escape(p)
}

// Unescape returns the text that Escape made s from. It also accepts upper-case
// hex digits and escapes that were not needed.
func Unescape(s string) (string, error) {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '-':
			b.WriteByte('/')
		case literal(c):
			b.WriteByte(c)
		case c == '\\':
			if len(s) < i+4 || s[i+1] != 'x' {
				return "", fmt.Errorf("%w: bad escape at byte %d of %q", ErrFormat, i, s)
			}
			hi, okHi := unhex(s[i+2])
			lo, okLo := unhex(s[i+3])
			if !okHi || !okLo {
				return "", fmt.Errorf("%w: bad escape at byte %d of %q", ErrFormat, i, s)
			}
			b.WriteByte(hi<<4 | lo)
			i += 3
		default:
			return "", fmt.Errorf("%w: byte %d of %q must be escaped", ErrFormat, i, s)
		}
	}
	return b.String(), nil
}

func literal(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c == '.'
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
