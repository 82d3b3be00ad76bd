// Package remote is a repository on a server: a datastore of a Holdfast server
// or of a Proxmox Backup Server, over its API and its two protocols.
//
// # Who asks
//
// A user logs in with a password, and a second factor if the server asks for it, at
// the first call that needs it, and gets a ticket, which is renewed every hour with
// itself. An API token needs no login:
// its secret goes with every call. Nothing is kept on disk.
//
// # The server
//
// It is recognised by its certificate, see internal/proto/trust. If it passes
// neither by fingerprint nor by authority, [Options.Trust] may accept it for the
// life of the repository.
//
// # What is different from a directory
//
//   - Listings have the first line of notes only, and no checksums of archives.
//   - Verification, pruning and garbage collection are the server's: with its
//     clock and time zone, without our keys, and with what it tells of them. The
//     settings of a collection are those of the datastore.
//   - A new group belongs to who asks.
//   - Sessions and snapshots have a connection of their own. A session ends with
//     the context that it was begun with.
//
// # Retries
//
// A call that only asks is made again when the connection failed, twice, after a
// pause; a call that a server refuses because the ticket has expired, once with a
// new one. A call that changes something is made once: when its connection
// fails, nobody knows what it did. A session that is lost is lost.
//
// # Source
//
// proxmox-backup: pbs-client/src/http_client.rs, proxmox-backup-client/src/.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// Options configure an opened repository.
type Options struct {
	// Password gives the password of a user, or the secret of an API token. It is
	// called when it is needed, and once if it succeeds.
	Password func(ctx context.Context) (secret.Secret, error)
	// Factor gives the answer to a second factor, a one-time password or a recovery
	// code; nil: there is nobody to ask, and such a login fails.
	Factor func(ctx context.Context, f Factors) (secret.Secret, error)
	// Fingerprint of the server's certificate; zero: an authority must vouch for it.
	Fingerprint address.Fingerprint
	// Trust is asked about a certificate that is not trusted; nil error accepts its
	// fingerprint. nil refuses.
	Trust func(ctx context.Context, e *trust.UntrustedError) error
	// Agent names this program to the server.
	Agent string
	// InFlight bounds the bytes of a backup that are on their way; 0: 64 MiB.
	InFlight int64
	// Now and Sleep are the clock; nil: the real one.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Repository is a datastore on a server. It implements repo.Repository and is
// safe for concurrent use.
type Repository struct {
	addr address.Address
	opt  Options
	http *http.Client
	auth auth

	mu          sync.Mutex // of the certificate
	fingerprint address.Fingerprint
}

var _ repo.Repository = (*Repository)(nil)

// Open prepares a repository. It connects to nothing: the first call does.
func Open(a address.Address, o Options) (*Repository, error) {
	if o.Password == nil {
		return nil, errors.New("a repository on a server needs a password")
	}
	if o.Agent == "" {
		o.Agent = "holdfast"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = cancel.Sleep
	}
	r := &Repository{addr: a, opt: o, fingerprint: o.Fingerprint}
	r.auth.r = r
	r.http = &http.Client{
		Transport: r.transport(),
		CheckRedirect: func(req *http.Request, _ []*http.Request) error {
			return fmt.Errorf("the server sends us to %s: is this a backup server?", req.URL.Redacted())
		},
	}
	return r, nil
}

// Location is the address of the repository.
func (r *Repository) Location() string { return r.addr.String() }

// Close ends idle connections. Sessions and snapshots end before.
func (r *Repository) Close() error {
	r.http.CloseIdleConnections()
	return nil
}
