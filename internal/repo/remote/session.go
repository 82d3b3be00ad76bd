package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/backupv1/backupclient"
	"github.com/holdfast-backup/holdfast/internal/proto/readerv1/readerclient"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Begin starts a backup, on a connection of its own. It ends with ctx.
func (r *Repository) Begin(ctx context.Context, b repo.Begin) (repo.Session, error) {
	if err := b.Snapshot.Check(); err != nil {
		return nil, err
	}
	if b.Owner != "" && b.Owner != r.addr.Auth.String() {
		return nil, fmt.Errorf("start backup %s: %w: on a server a group belongs to who asks, and that is %s, not %s",
			b.Snapshot, repo.ErrOwner, r.addr.Auth, b.Owner)
	}
	conn, err := r.session(ctx, "/backup", upgrade.Backup, upgrade.Request{Store: r.addr.Store, Snapshot: b.Snapshot, Benchmark: b.Benchmark})
	if err != nil {
		return nil, fmt.Errorf("start backup %s: %w", b.Snapshot, err)
	}
	s, err := backupclient.Begin(ctx, conn, b.Snapshot, backupclient.Options{InFlight: r.opt.InFlight, Reader: r.Open})
	if err != nil { // not a typed nil
		return nil, err
	}
	return s, nil
}

// Open opens a finished snapshot for reading, on a connection of its own.
func (r *Repository) Open(ctx context.Context, s names.Snapshot) (repo.Snapshot, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	conn, err := r.session(ctx, "/reader", upgrade.Reader, upgrade.Request{Store: r.addr.Store, Snapshot: s})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s, err)
	}
	p, err := readerclient.Open(ctx, conn, s)
	if err != nil { // not a typed nil
		return nil, err
	}
	return p, nil
}

// session asks for a connection of another protocol.
func (r *Repository) session(ctx context.Context, path, protocol string, q upgrade.Request) (*upgrade.Client, error) {
	for first := true; ; first = false {
		req, err := r.request(ctx, http.MethodGet, path, q.Values())
		if err != nil {
			return nil, err
		}
		if err := r.auth.sign(ctx, req); err != nil {
			return nil, err
		}
		c, err := r.ask(ctx, req, protocol)
		e, refused := errors.AsType[*rest.Error](err)
		switch {
		case err == nil:
			return c, nil
		case refused && e.Status == http.StatusUnauthorized && first && r.auth.expired(req):
			continue
		case refused:
			return nil, r.refused(err)
		}
		return nil, err
	}
}

func (r *Repository) ask(ctx context.Context, req *http.Request, protocol string) (*upgrade.Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerLimit, fmt.Errorf("server %s: no answer after %s", r.addr.Server(), answerLimit))
	defer cancel()
	conn, err := r.dial(ctx)
	if err != nil {
		return nil, r.failed(err)
	}
	c, resp, err := upgrade.Open(ctx, conn, req, protocol)
	if err != nil || resp == nil {
		return c, err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := rest.Refused(resp); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("server %s: it does not switch protocols, but answers %s: is this a backup server?", r.addr.Server(), resp.Status)
}
