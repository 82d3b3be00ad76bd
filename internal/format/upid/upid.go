// Package upid reads and writes the identifier of a task, as it stands in task
// logs, in the state of a verification and in the status of a garbage
// collection.
//
// # Form
//
//	UPID:<node>:<pid>:<pstart>:<task id>:<start>:<type>:<worker id>:<auth id>:
//
//	node       host name without domain: letters, digits, inner '-'
//	pid        8 hex digits, process id
//	pstart     8 or 9 hex digits, start of the process in clock ticks since boot
//	task id    8 to 16 hex digits, counter within the process
//	start      8 hex digits, seconds since 1970-01-01 UTC
//	type       text without ':' and white space, such as "verify"
//	worker id  what the task works on, escaped as in internal/format/unitname;
//	           may be empty
//	auth id    text without ':' and white space, such as "root@pam"
//
// Hex digits are written in upper case and read in either.
//
// # Errors
//
// Parse returns an error wrapping [ErrFormat].
//
// # Source
//
// proxmox-rs: proxmox-schema/src/upid.rs.
package upid

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/format/unitname"
)

// ErrFormat is wrapped for texts and values that are no UPID.
var ErrFormat = errors.New("invalid UPID")

const (
	maxLen  = 4096 // bounds what is read; real ones have about a hundred bytes
	maxText = 256  // what New takes of a field, before escaping
	maxTime = 0xFFFF_FFFF
)

// UPID identifies a task.
type UPID struct {
	Node   string
	PID    uint32
	PStart uint64 // clock ticks since boot
	TaskID uint64
	Time   int64  // of the start, seconds since 1970-01-01 UTC
	Type   string // "backup", "verify", "garbage_collection"
	Worker string // not escaped; empty when there is none
	Auth   string
}

// New returns the identifier of a task of this process that starts at start.
// The task id is the fraction of the second, which tells two tasks of one
// process apart; pstart, of no use to readers, is 0. The result always parses:
// what a field may not hold becomes '-', of a host name only the first label
// is taken, and a start that does not fit is 0.
func New(node string, pid int, start time.Time, typ, worker, auth string) UPID {
	u := UPID{
		Node:   nodeName(node),
		PID:    uint32(pid),
		TaskID: uint64(start.Nanosecond()),
		Time:   start.Unix(),
		Type:   fieldText(typ),
		Worker: cut(worker),
		Auth:   fieldText(auth),
	}
	if u.Time < 0 || u.Time > maxTime {
		u.Time = 0
	}
	return u
}

// Parse reads the text form.
func Parse(s string) (UPID, error) {
	if len(s) > maxLen || !utf8.ValidString(s) {
		return UPID{}, fmt.Errorf("%w: %d bytes, want at most %d of UTF-8", ErrFormat, len(s), maxLen)
	}
	f := strings.Split(s, ":")
	if len(f) != 10 || f[0] != "UPID" || f[9] != "" {
		return UPID{}, fmt.Errorf("%w: %q: want UPID: and eight fields, each with ':' behind it", ErrFormat, s)
	}
	u := UPID{Node: f[1], Type: f[6], Auth: f[8]}
	for _, n := range []struct {
		name, text string
		least      int
		most       int
		set        func(uint64)
	}{
		{"pid", f[2], 8, 8, func(v uint64) { u.PID = uint32(v) }},
		{"pstart", f[3], 8, 9, func(v uint64) { u.PStart = v }},
		{"task id", f[4], 8, 16, func(v uint64) { u.TaskID = v }},
		{"start", f[5], 8, 8, func(v uint64) { u.Time = int64(v) }},
	} {
		v, err := strconv.ParseUint(n.text, 16, 64)
		if err != nil || len(n.text) < n.least || len(n.text) > n.most {
			return UPID{}, fmt.Errorf("%w: %s %q: want %d to %d hex digits", ErrFormat, n.name, n.text, n.least, n.most)
		}
		n.set(v)
	}
	var err error
	if u.Worker, err = unitname.Unescape(f[7]); err != nil {
		return UPID{}, fmt.Errorf("%w: worker id: %w", ErrFormat, err)
	}
	if err := u.check(); err != nil {
		return UPID{}, err
	}
	return u, nil
}

// String returns the text form.
func (u UPID) String() string {
	return fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%08X:%s:%s:%s:",
		u.Node, u.PID, u.PStart, u.TaskID, u.Time, u.Type, unitname.Escape(u.Worker), u.Auth)
}

// Start returns when the task started.
func (u UPID) Start() time.Time { return time.Unix(u.Time, 0) }

// IsZero reports whether u is the zero value, which names no task.
func (u UPID) IsZero() bool { return u == UPID{} }

func (u UPID) check() error {
	switch {
	case !isNode(u.Node):
		return fmt.Errorf("%w: node %q: want letters, digits and inner '-'", ErrFormat, u.Node)
	case u.PStart > 0xF_FFFF_FFFF:
		return fmt.Errorf("%w: pstart %d does not fit 9 hex digits", ErrFormat, u.PStart)
	case u.Time < 0 || u.Time > maxTime:
		return fmt.Errorf("%w: start %d does not fit 8 hex digits", ErrFormat, u.Time)
	case !isField(u.Type):
		return fmt.Errorf("%w: type %q: want text without ':' and white space", ErrFormat, u.Type)
	case !isField(u.Auth):
		return fmt.Errorf("%w: auth id %q: want text without ':' and white space", ErrFormat, u.Auth)
	case !utf8.ValidString(u.Worker):
		return fmt.Errorf("%w: worker id %q is not UTF-8", ErrFormat, u.Worker)
	case len(u.String()) > maxLen:
		return fmt.Errorf("%w: longer than %d bytes", ErrFormat, maxLen)
	}
	return nil
}

func isNode(s string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}

func isField(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return r == ':' || unicode.IsSpace(r)
	})
}

// nodeName makes a host name fit.
func nodeName(s string) string {
	s, _, _ = strings.Cut(cut(s), ".")
	s = strings.Trim(strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && isNode(string(r)) {
			return r
		}
		return '-'
	}, s), "-")
	if s == "" {
		return "localhost"
	}
	return s
}

// fieldText makes a text fit a field that is not escaped.
func fieldText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == ':' || unicode.IsSpace(r) {
			return '-'
		}
		return r
	}, cut(s))
	if s == "" {
		return "-"
	}
	return s
}

// cut makes a text valid and short enough.
func cut(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxText)], "-")
}
