package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// renewAfter is the age at which a ticket is renewed; it is good for two hours.
const renewAfter = time.Hour

// ErrLogin is wrapped when the server does not let us in.
var ErrLogin = errors.New("login refused")

// auth is who we are to the server.
type auth struct {
	r *Repository

	mu       sync.Mutex
	password *secret.Secret // nil: not asked for yet
	ticket   string         // of a user; "" when there is none
	csrf     string
	since    time.Time
}

// sign adds to a request what shows who makes it.
func (a *auth) sign(ctx context.Context, req *http.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.r.addr.Auth.IsToken() {
		s, err := a.secret(ctx)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "PBSAPIToken="+a.r.addr.Auth.String()+":"+url.PathEscape(string(s.Reveal())))
		return nil
	}
	if a.ticket == "" || a.r.opt.Now().Sub(a.since) > renewAfter {
		if err := a.login(ctx); err != nil {
			return err
		}
	}
	req.Header.Set("Cookie", "PBSAuthCookie="+url.QueryEscape(a.ticket)) // of '+' too, which counts as itself there
	if req.Method != http.MethodGet {
		req.Header.Set("CSRFPreventionToken", a.csrf)
	}
	return nil
}

// expired forgets a ticket with which a request was refused. It reports whether
// another one might do.
func (a *auth) expired(req *http.Request) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ticket == "" {
		return false
	}
	if req.Header.Get("Cookie") == "PBSAuthCookie="+url.QueryEscape(a.ticket) {
		a.ticket = ""
	}
	return true
}

func (a *auth) secret(ctx context.Context) (secret.Secret, error) {
	if a.password == nil {
		s, err := a.r.opt.Password(ctx)
		if err != nil {
			return secret.Secret{}, err
		}
		a.password = &s
	}
	return *a.password, nil
}

// login gets a ticket: with the old one if it may still be good, else with the
// password.
func (a *auth) login(ctx context.Context) error {
	const lifetime = 2 * time.Hour
	if a.ticket != "" && a.r.opt.Now().Sub(a.since) < lifetime {
		if err := a.ask(ctx, a.ticket); err == nil {
			return nil
		}
	}
	a.ticket = ""
	s, err := a.secret(ctx)
	if err != nil {
		return err
	}
	return a.ask(ctx, string(s.Reveal()))
}

func (a *auth) ask(ctx context.Context, password string) error {
	r := a.r
	form := url.Values{"username": {r.addr.Auth.String()}, "password": {password}}
	req, err := r.request(ctx, http.MethodPost, "/access/ticket", form)
	if err != nil {
		return err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return r.failed(plain(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	var got items.Login
	err = rest.Answer(resp, &got)
	if e, ok := errors.AsType[*rest.Error](err); ok && e.Status == http.StatusUnauthorized {
		return fmt.Errorf("%w: %s as %s: %w", ErrLogin, r.addr.Server(), r.addr.Auth, err)
	}
	if err != nil {
		return fmt.Errorf("log in to %s: %w", r.addr.Server(), err)
	}
	if strings.HasPrefix(got.Ticket, challenge) {
		if got, err = a.second(ctx, got.Ticket); err != nil {
			return err
		}
	}
	if got.Ticket == "" {
		return fmt.Errorf("log in to %s: the answer has no ticket", r.addr.Server())
	}
	a.ticket, a.csrf, a.since = got.Ticket, got.CSRFToken, r.opt.Now()
	return nil
}
