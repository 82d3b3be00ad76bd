package cli

import (
	"context"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/image"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdclient"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// isNBD reports a source or target that is an export of an NBD server. A file
// whose name begins so is written with its directory: ./nbd:x.
func isNBD(s string) bool {
	scheme, _, ok := strings.Cut(s, ":")
	switch scheme {
	case "nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock":
		return ok
	}
	return false
}

func parseNBD(s string) (nbd.URI, error) {
	u, err := nbd.ParseURI(s)
	if err != nil {
		return u, hint(usage(err), "write nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH, or nbds instead of nbd for TLS")
	}
	return u, nil
}

// nbdFlags are for commands that use exports of other servers.
type nbdFlags struct {
	certificates string
}

func (o *nbdFlags) add(f interface {
	StringVar(p *string, name, value, usage string)
},
) {
	f.StringVar(&o.certificates, "tls-certificates", "", "for nbds://: directory with ca-cert.pem, client-cert.pem and client-key.pem")
}

func (o nbdFlags) options() nbdclient.Options {
	return nbdclient.Options{Certificates: o.certificates}
}

// openExport opens a target that is an export, and says what is left alone.
func (a *app) openExport(ctx context.Context, o restoreOptions, size int64) (image.Target, error) {
	u, err := parseNBD(o.target)
	if err != nil {
		return nil, err
	}
	opts := o.nbd.options()
	opts.Size = size
	t, err := nbdclient.OpenTarget(ctx, u, opts)
	if err != nil {
		return nil, err // not t: a nil pointer in an interface
	}
	if t.Export() > t.Size() {
		a.say("%s has %s and the image %s: what lies behind it is left alone", o.target, ui.Size(t.Export()), ui.Size(t.Size()))
	}
	return t, nil
}
