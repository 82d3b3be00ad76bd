// Package address is how a repository on a server is named, and how that
// server is recognised.
//
// # Repository
//
//	[[user@realm[!token]@]host[:port]:]datastore
//
//	user@realm    who asks; root@pam by default. A user's name may hold '@'.
//	!token        an API token of that user
//	host          a name, an IPv4 address, or an IPv6 address in brackets;
//	              localhost by default
//	port          1 to 65535; 8007 by default
//	datastore     a safe-id of 3 to 32 bytes
//
// # Fingerprint
//
// The SHA-256 of a certificate in DER, as 32 hex pairs joined by colons, lower
// case. Parsing takes either case, and also digits without colons.
//
// # Errors
//
// All parsers return errors wrapping [ErrFormat].
//
// # Source
//
// proxmox-backup: pbs-client/src/backup_repo.rs, pbs-api-types/src/lib.rs.
package address

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// What an address that leaves something out means.
const (
	DefaultHost = "localhost"
	DefaultPort = 8007
)

// DefaultAuth is who asks when nobody is named.
func DefaultAuth() names.AuthID { return names.AuthID{User: "root", Realm: "pam"} }

// ErrFormat is wrapped by the errors of all parsers of this package.
var ErrFormat = errors.New("invalid address")

// Address names a datastore on a server. It is comparable.
type Address struct {
	Auth  names.AuthID
	Host  string // without brackets
	Port  uint16
	Store string
}

// Parse reads the text form and fills in what it leaves out.
func Parse(s string) (Address, error) {
	a, err := parse(s)
	if err != nil {
		return Address{}, fmt.Errorf("repository %q: %w: %w; want [[user@realm[!token]@]host[:port]:]datastore", s, ErrFormat, err)
	}
	return a, nil
}

func parse(s string) (Address, error) {
	a := Address{Auth: DefaultAuth(), Host: DefaultHost, Port: DefaultPort, Store: s}
	where, store, ok := cutLast(s, ":")
	if ok {
		a.Store = store
	}
	if err := names.CheckStore(a.Store); err != nil {
		return a, err
	}
	if !ok {
		return a, nil
	}
	if auth, rest, ok := cutLast(where, "@"); ok {
		id, err := names.ParseAuthID(auth)
		if err != nil {
			return a, err
		}
		a.Auth, where = id, rest
	}
	return a, a.place(where)
}

// place reads host and port.
func (a *Address) place(s string) error {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok := strings.Cut(inner, "]")
		if !ok {
			return errors.New("a bracket is not closed")
		}
		if !looksIPv6(host) {
			return fmt.Errorf("%q is no IPv6 address", host)
		}
		a.Host = host
		if port == "" {
			return nil
		}
		if port, ok = strings.CutPrefix(port, ":"); !ok {
			return errors.New("what follows a bracket must be the port")
		}
		return a.port(port)
	}
	host, port, ok := strings.Cut(s, ":")
	if !isHost(host) {
		return fmt.Errorf("%q is no host", host)
	}
	a.Host = host
	if !ok {
		return nil
	}
	if strings.Contains(port, ":") {
		return errors.New("an IPv6 address needs brackets")
	}
	return a.port(port)
}

func (a *Address) port(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s != strconv.FormatUint(n, 10) {
		return fmt.Errorf("%q is no port", s)
	}
	a.Port = uint16(n)
	return nil
}

// looksIPv6 reports whether s consists of what IPv6 addresses are made of. Whether
// it is one, dialling finds out.
func looksIPv6(s string) bool {
	s, zone, scoped := strings.Cut(s, "%")
	return strings.Count(s, ":") >= 2 && strings.Trim(s, "0123456789abcdefABCDEF:.") == "" &&
		(!scoped || isHost(zone))
}

// isHost reports whether s may be a host's name or IPv4 address: labels of
// letters, digits, '-' and '_', joined by dots.
func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			switch {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}

// Server returns host and port as dialling wants them.
func (a Address) Server() string {
	host := a.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.FormatUint(uint64(a.Port), 10)
}

// String is the inverse of Parse: everything but a default port.
func (a Address) String() string {
	server := a.Server()
	if a.Port == DefaultPort {
		server = strings.TrimSuffix(server, ":"+strconv.Itoa(DefaultPort))
	}
	return a.Auth.String() + "@" + server + ":" + a.Store
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
