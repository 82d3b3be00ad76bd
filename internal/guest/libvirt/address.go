package libvirt

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// ErrAddress is wrapped when an address is none of a libvirt daemon of this host.
var ErrAddress = errors.New("not the address of a libvirt daemon of this host")

// Address says where a libvirt daemon listens.
type Address struct {
	Driver  string   // what is asked for there: "qemu:///system"
	Sockets []string // tried in this order
}

// ParseAddress reads an address as libvirt's own programs take it:
//
//	qemu:///system                    the daemon of the host
//	qemu:///session                   that of the user, below runtimeDir
//	qemu+unix:///system?socket=PATH   one that listens on PATH
//
// Disks are read through sockets and files of this host, so other transports
// are refused.
func ParseAddress(s, runtimeDir string) (Address, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	scheme, transport, _ := strings.Cut(u.Scheme, "+")
	q := u.Query()
	socket := q.Get("socket")
	q.Del("socket")
	switch {
	case scheme != "qemu":
		return Address{}, fmt.Errorf("%w: %q: only QEMU's domains can be backed up, as in qemu:///system", ErrAddress, s)
	case u.Host != "", transport != "" && transport != "unix":
		return Address{}, fmt.Errorf("%w: %q: disks are read through files and sockets, so run this on the host of the domains", ErrAddress, s)
	case len(q) > 0 || u.Fragment != "":
		return Address{}, fmt.Errorf("%w: %q: only socket=PATH is understood", ErrAddress, s)
	case u.Path != "/system" && u.Path != "/session":
		return Address{}, fmt.Errorf("%w: %q: want qemu:///system or qemu:///session", ErrAddress, s)
	}
	a := Address{Driver: "qemu://" + u.Path}
	dir := "/run/libvirt"
	if u.Path == "/session" {
		dir = filepath.Join(runtimeDir, "libvirt")
	}
	switch {
	case socket != "":
		a.Sockets = []string{socket}
	case u.Path == "/session" && runtimeDir == "":
		return Address{}, fmt.Errorf("%w: %q: there is no XDG_RUNTIME_DIR; name the socket as in qemu+unix:///session?socket=PATH", ErrAddress, s)
	default: // the daemon of QEMU alone comes first, as in libvirt
		a.Sockets = []string{filepath.Join(dir, "virtqemud-sock"), filepath.Join(dir, "libvirt-sock")}
	}
	return a, nil
}

// Session reports whether the daemon is that of a user, who owns all its files.
func (a Address) Session() bool { return a.Driver == "qemu:///session" }
