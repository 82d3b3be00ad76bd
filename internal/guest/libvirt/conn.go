package libvirt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/beevik/etree"
	lv "github.com/digitalocean/go-libvirt"

	"github.com/holdfast-backup/holdfast/internal/guest/libvirt/domxml"
)

// The errors that callers tell apart. What libvirt itself says is wrapped too.
var (
	// ErrNoDomain is wrapped when libvirt knows no such domain.
	ErrNoDomain = errors.New("no such domain")
	// ErrExists is wrapped when a domain to be defined, or a file of it, is there
	// already.
	ErrExists = errors.New("it exists already")
	// ErrJob is wrapped when a backup of the domain is under way that is not
	// known to be abandoned.
	ErrJob = errors.New("a backup job of another program is active in the domain")
	// ErrBusy is wrapped when another process of ours backs up the domain.
	ErrBusy = errors.New("the domain is being backed up")
	// ErrScratch is wrapped when a point was given up because the space for what
	// the guest overwrites came to an end.
	ErrScratch = errors.New("too little space for scratch files")
)

// Conn is a connection to a libvirt daemon of this host. It is safe for
// concurrent use.
type Conn struct{ l *lv.Libvirt }

// Open connects to the first socket that answers.
func Open(ctx context.Context, a Address) (*Conn, error) {
	l := lv.NewWithDialer(dialer{ctx, a.Sockets})
	if err := l.ConnectToURI(lv.ConnectURI(a.Driver)); err != nil {
		return nil, fmt.Errorf("connect to libvirt: %w", err)
	}
	return &Conn{l}, nil
}

// Close ends the connection. What it began in domains goes on.
func (c *Conn) Close() error {
	if err := c.l.Disconnect(); err != nil && c.l.IsConnected() {
		return fmt.Errorf("disconnect from libvirt: %w", err)
	}
	return nil // a daemon that went away is disconnected as well
}

type dialer struct {
	ctx     context.Context
	sockets []string
}

func (d dialer) Dial() (net.Conn, error) {
	var errs []error
	for _, s := range d.sockets {
		var nd net.Dialer
		nc, err := nd.DialContext(d.ctx, "unix", s)
		if err == nil {
			return nc, nil
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
			err = fmt.Errorf("nobody listens on %s (%w): is the daemon of libvirt running?", s, err)
		case errors.Is(err, fs.ErrPermission):
			err = fmt.Errorf("no permission for %s (%w): run as root or as a member of the group libvirt", s, err)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// is reports whether libvirt answered with one of these errors.
func is(err error, codes ...lv.ErrorNumber) bool {
	e, ok := errors.AsType[lv.Error](err)
	for _, c := range codes {
		if ok && e.Code == uint32(c) {
			return true
		}
	}
	return false
}

// owner is the user that QEMU will run as, by the capabilities of the host.
func (c *Conn) owner() (uid, gid int, ok bool) {
	text, err := c.l.ConnectGetCapabilities()
	if err != nil {
		return 0, 0, false
	}
	doc := etree.NewDocument()
	if doc.ReadFromString(text) != nil || doc.Root() == nil {
		return 0, 0, false
	}
	host := doc.Root().SelectElement("host")
	if host == nil {
		return 0, 0, false
	}
	for _, m := range host.SelectElements("secmodel") {
		model, label := m.SelectElement("model"), m.SelectElement("baselabel")
		if model != nil && label != nil && model.Text() == "dac" {
			return domxml.ParseOwner(label.Text())
		}
	}
	return 0, 0, false
}
