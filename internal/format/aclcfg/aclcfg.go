// Package aclcfg reads and writes the lines of acl.cfg, in which a PBS server
// keeps who has which role where.
//
// # Layout
//
// UTF-8 text of lines; empty ones do not count, nor does white space around a
// line. A line has five fields with ":" between them:
//
//	acl:1:/datastore/tank:backup@pbs,backup@pbs!pve1:DatastoreBackup
//
//	acl        fixed
//	1          1 if it holds for all below the path too, else 0
//	path       "/" or names, each with "/" before it
//	who        users, API tokens, and groups with "@" before the name, separated by ","
//	roles      names of roles, separated by ","
//
// White space around the members of a list does not count; in paths, neither do
// doubled slashes and one at the end. Several lines may speak of one path, and of
// one user there.
//
// # Errors
//
// Parse returns an error wrapping [ErrFormat] that names the line, Append one for
// what could not be read back. Which users and roles there are is not known here.
//
// # Source
//
// proxmox-backup: pbs-config/src/acl.rs, docs/config/acl/format.rst.
package aclcfg

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrFormat is wrapped by all errors about text.
var ErrFormat = errors.New("not a valid line of acl.cfg")

// Line is one line.
type Line struct {
	Propagate bool
	Path      string   // "/", or as in "/datastore/tank"
	Who       []string // "user@realm", "user@realm!token" or "@group"; at least one
	Roles     []string // at least one
}

// Parse reads a file.
func Parse(text []byte) ([]Line, error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrFormat)
	}
	var lines []Line
	n := 0
	for s := range strings.Lines(string(text)) {
		n++
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		l, err := parseLine(s)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

func parseLine(s string) (l Line, err error) {
	f := strings.Split(s, ":")
	if len(f) != 5 || f[0] != "acl" {
		return l, fmt.Errorf("%w: want acl:<0|1>:<path>:<who>:<roles>", ErrFormat)
	}
	switch f[1] {
	case "0":
	case "1":
		l.Propagate = true
	default:
		return l, fmt.Errorf("%w: %q where 0 or 1 says whether it holds below the path", ErrFormat, f[1])
	}
	l.Path = CleanPath(f[2])
	l.Who = list(f[3])
	l.Roles = list(f[4])
	return l, l.check()
}

func list(s string) []string {
	all := strings.Split(s, ",")
	for i, v := range all {
		all[i] = strings.TrimSpace(v)
	}
	return all
}

// CleanPath drops empty names: "//a/" is "/a", and "" is "/".
func CleanPath(s string) string {
	var b strings.Builder
	for name := range strings.SplitSeq(s, "/") {
		if name != "" {
			b.WriteByte('/')
			b.WriteString(name)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// Append appends lines to b, one below the other.
func Append(b []byte, lines ...Line) ([]byte, error) {
	for _, l := range lines {
		if err := l.check(); err != nil {
			return nil, err
		}
		flag := 0
		if l.Propagate {
			flag = 1
		}
		b = fmt.Appendf(b, "acl:%d:%s:%s:%s\n", flag, l.Path, strings.Join(l.Who, ","), strings.Join(l.Roles, ","))
	}
	return b, nil
}

// check reports what a line could not carry.
func (l Line) check() error {
	if !carries(l.Path, ":") || l.Path != CleanPath(l.Path) {
		return fmt.Errorf("%w: %q is not a path", ErrFormat, l.Path)
	}
	if len(l.Who) == 0 || len(l.Roles) == 0 {
		return fmt.Errorf("%w: %s: want somebody and a role", ErrFormat, l.Path)
	}
	for _, s := range l.Who {
		if s == "" || s == "@" || !carries(s, ":,") || strings.ContainsFunc(s, unicode.IsSpace) {
			return fmt.Errorf("%w: %s: %q is neither a user, nor an API token, nor a group", ErrFormat, l.Path, s)
		}
	}
	for _, s := range l.Roles {
		if s == "" || !carries(s, ":,") || strings.ContainsFunc(s, unicode.IsSpace) {
			return fmt.Errorf("%w: %s: %q is not a role", ErrFormat, l.Path, s)
		}
	}
	return nil
}

// carries reports whether a field can hold text.
func carries(s, without string) bool {
	return utf8.ValidString(s) && !strings.ContainsAny(s, without) && !strings.ContainsFunc(s, unicode.IsControl)
}
