package accounts

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/access/passwd"
	"github.com/holdfast-backup/holdfast/internal/access/percent"
	"github.com/holdfast-backup/holdfast/internal/access/ticket"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// Names of cookies that carry a ticket. The first counts if both are there.
const (
	HostCookie = "__Host-PBSAuthCookie"
	Cookie     = "PBSAuthCookie"
)

// tokenScheme begins the header Authorization of an API token; a blank or "=" and
// "<token>:<secret>" follow.
const tokenScheme = "PBSAPIToken"

// Credentials are the headers of a request that say who it is from.
type Credentials struct {
	Cookies       []string // values of the header Cookie
	Authorization string
	CSRF          string // value of the header CSRFPreventionToken
	Changes       bool   // the method is another than GET
	Peer          string // address that it comes from
}

// Who returns who a request is from: an active user or token. Cookies count before
// an Authorization.
func (g *Gate) Who(ctx context.Context, c Credentials) (names.AuthID, error) {
	now := g.now()
	if t, ok := ticketOf(c.Cookies); ok {
		return g.user(t, c, now)
	}
	rest, ok := strings.CutPrefix(c.Authorization, tokenScheme)
	if !ok || rest == "" || rest[0] != ' ' && rest[0] != '=' {
		return names.AuthID{}, ErrNoCredentials
	}
	text, key, ok := strings.Cut(rest[1:], ":")
	id, err := names.ParseAuthID(text)
	if !ok || err != nil || !id.IsToken() {
		return names.AuthID{}, fmt.Errorf("%w: want %s <user>@<realm>!<token>:<secret>", ErrRefused, tokenScheme)
	}
	return id, g.token(ctx, id, secret.New([]byte(percent.Decode(key))), c.Peer, now)
}

// user checks a ticket.
func (g *Gate) user(t string, c Credentials, now time.Time) (names.AuthID, error) {
	text, err := g.tickets.VerifyLogin(t, now)
	if err != nil {
		return names.AuthID{}, fmt.Errorf("%w: ticket: %w", ErrRefused, err)
	}
	id, err := names.ParseAuthID(text)
	if err != nil || id.IsToken() {
		return names.AuthID{}, fmt.Errorf("%w: the ticket is of %q, which is no user", ErrRefused, text)
	}
	if err := g.active(id, now); err != nil {
		return names.AuthID{}, err
	}
	if c.Changes {
		if err := g.csrf.Check(c.CSRF, text, now); err != nil {
			return names.AuthID{}, fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return id, nil
}

// token checks the secret of an API token.
func (g *Gate) token(ctx context.Context, id names.AuthID, key secret.Secret, peer string, now time.Time) error {
	if err := g.active(id, now); err != nil {
		return err
	}
	hash, err := g.store.tokenHash(id)
	if errors.Is(err, errNoSecret) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return err
	}
	mark := g.markOf(key)
	g.mu.Lock()
	k, seen := g.known[id]
	g.mu.Unlock()
	if seen && k.hash == hash && hmac.Equal(k.mark[:], mark[:]) {
		return nil
	}
	count := []name{{id.String() + " from " + network(peer), 5}}
	err = g.at(ctx, g.secrets, count, func() error { return passwd.Verify(key, hash) })
	switch {
	case errors.Is(err, passwd.ErrMismatch), errors.Is(err, passwd.ErrFormat):
		g.limit.failed(now, count...)
		return fmt.Errorf("%w: secret of %s: %w", ErrRefused, id, err)
	case err != nil:
		return err
	}
	g.limit.good(count...)
	g.mu.Lock()
	g.known[id] = known{hash, mark}
	g.mu.Unlock()
	return nil
}

// markOf stands for a secret in memory. It is worth nothing outside.
func (g *Gate) markOf(key secret.Secret) (mark [sha256.Size]byte) {
	h := hmac.New(sha256.New, g.mark[:])
	h.Write(key.Reveal())
	return [sha256.Size]byte(h.Sum(nil))
}

// ticketOf finds the ticket in cookies. "+" is itself there: a ticket has base64.
func ticketOf(headers []string) (string, bool) {
	for _, want := range []string{HostCookie, Cookie} {
		for _, h := range headers {
			for pair := range strings.SplitSeq(h, ";") {
				name, value, ok := strings.Cut(pair, "=")
				if !ok || strings.TrimSpace(name) != want {
					continue
				}
				if t := percent.Decode(strings.TrimSpace(value)); t != "" && utf8.ValidString(t) {
					return t, true
				}
			}
		}
	}
	return "", false
}

// CheckTerminal checks the ticket of a terminal, which is for a path and a port.
func (g *Gate) CheckTerminal(id names.AuthID, t, path string, port uint16) error {
	_, err := g.tickets.Verify(t, ticket.Terminal, ticket.TerminalContext(id.String(), path, port), g.now(), ticket.Usual)
	if err != nil {
		return fmt.Errorf("%w: terminal: %w", ErrRefused, err)
	}
	return nil
}
