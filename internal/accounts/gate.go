package accounts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access/passwd"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/access/ticket"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

var (
	// ErrRefused is wrapped when somebody is not let in.
	ErrRefused = errors.New("refused")
	// ErrNoCredentials is returned for a request that says of nobody to be from.
	ErrNoCredentials = errors.New("no credentials")
)

// Realm checks passwords.
type Realm interface {
	// Check returns nil if the password is the user's. An error that wraps
	// ErrRefused means that it is not, every other one that nobody could find out.
	// peer is the address that the attempt comes from, or empty.
	Check(ctx context.Context, user string, password secret.Secret, peer string) error
}

// Gate lets people and programs in. It is safe for concurrent use.
type Gate struct {
	store   *Store
	realms  map[string]Realm
	log     *slog.Logger
	now     func() time.Time
	tickets *ticket.Keyring
	csrf    ticket.CSRF
	limit   limiter

	// Places for those that are being checked, one for each. They are apart so that who
	// floods one does not hold up the others.
	passwords, secrets, outside places

	mu     sync.Mutex
	factor map[string]tfa.Failures // by user
	known  map[names.AuthID]known
	mark   [32]byte // key of the marks in known
}

// known is a secret of a token that was right.
type known struct {
	hash string            // that it was right for
	mark [sha256.Size]byte // of the secret
}

// places bound how many do something at a time.
type places chan struct{}

const (
	hashing = 2 // passwords, and secrets of tokens as well: 16 MiB each
	asking  = 8 // other realms
)

// OpenGate returns the gate to the accounts of a store. Keys that are missing are
// made. realms are those besides pbs, by name.
func OpenGate(s *Store, realms map[string]Realm) (*Gate, error) {
	g := &Gate{
		store: s, log: s.log, now: s.now, realms: maps.Clone(realms),
		passwords: make(places, hashing), secrets: make(places, hashing), outside: make(places, asking),
		factor: map[string]tfa.Failures{}, known: map[names.AuthID]known{},
	}
	if g.realms == nil {
		g.realms = map[string]Realm{}
	}
	g.realms[RealmPBS] = pbsRealm{s}
	_, _ = rand.Read(g.mark[:]) // never fails
	var err error
	if g.tickets, err = openTicketKey(s.dir); err != nil {
		return nil, err
	}
	if g.csrf, err = openCSRFKey(s.dir); err != nil {
		return nil, err
	}
	return g, nil
}

// pbsRealm has its passwords in shadow.json.
type pbsRealm struct{ s *Store }

// Check implements [Realm].
func (r pbsRealm) Check(ctx context.Context, user string, password secret.Secret, _ string) error {
	return r.s.verifyPassword(ctx, user, password)
}

// openTicketKey reads authkey.key, or makes it.
func openTicketKey(d confdir.Dir) (*ticket.Keyring, error) {
	text, err := d.Load(confdir.AuthKey)
	if err != nil {
		return nil, err
	}
	if text == nil {
		private, _, err := ticket.Generate(rand.Reader)
		if err != nil {
			return nil, err
		}
		if _, err := d.Create(confdir.AuthKey, private); err != nil {
			return nil, err
		}
		if text, err = d.Load(confdir.AuthKey); err != nil { // another may have been faster
			return nil, err
		}
	}
	k, err := ticket.ParsePrivate(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", confdir.AuthKey.Name, err)
	}
	public, err := k.Public()
	if err != nil {
		return nil, err
	}
	_, err = d.Create(confdir.AuthPub, public)
	return k, err
}

// openCSRFKey reads csrf.key, or makes it.
func openCSRFKey(d confdir.Dir) (ticket.CSRF, error) {
	text, err := d.Load(confdir.CSRFKey)
	if err == nil && text == nil {
		if text, err = ticket.GenerateCSRF(rand.Reader); err != nil {
			return ticket.CSRF{}, err
		}
		if _, err = d.Create(confdir.CSRFKey, text); err == nil {
			text, err = d.Load(confdir.CSRFKey)
		}
	}
	if err != nil {
		return ticket.CSRF{}, err
	}
	return ticket.ParseCSRF(text)
}

// at runs f in one of some places, and not for those who have to wait, even if they
// have to only since they are in the queue.
func (g *Gate) at(ctx context.Context, p places, count []name, f func() error) error {
	if err := g.limit.wait(g.now(), count...); err != nil {
		return err
	}
	select {
	case p <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-p }()
	if err := g.limit.wait(g.now(), count...); err != nil {
		return err
	}
	return f()
}

// Login is an attempt to log in.
type Login struct {
	User     names.AuthID
	Password secret.Secret // or a ticket of the user, or the answer to a challenge
	// Challenge is the ticket that a first attempt got that was right as far as
	// the password goes; Password is then the answer, "totp:123456".
	Challenge string
	Peer      string // address that it comes from
}

// Grant is what a login gets.
type Grant struct {
	User   names.AuthID
	Ticket string
	CSRF   string // "invalid" with a ticket that needs a second factor
	// Factor says that the ticket is good for nothing but a second attempt with the
	// second factor.
	Factor bool
}

// Login lets a user in, or not.
func (g *Gate) Login(ctx context.Context, l Login) (Grant, error) {
	if l.User.IsToken() {
		return Grant{}, fmt.Errorf("%w: API tokens do not log in", ErrRefused)
	}
	now := g.now()
	user := l.User.String()
	count := []name{{user + " from " + network(l.Peer), 5}, {"from " + network(l.Peer), 50}}
	if l.Challenge == "" && ticket.Looks(l.Password.Reveal()) {
		if of, err := g.tickets.VerifyLogin(string(l.Password.Reveal()), now); err == nil {
			if err := g.active(l.User, now); err != nil {
				return Grant{}, err
			}
			if of != user {
				return Grant{}, fmt.Errorf("%w: the ticket is of %s", ErrRefused, of)
			}
			return g.grant(l.User, now)
		}
	}
	if err := g.limit.wait(now, count...); err != nil {
		return Grant{}, err
	}
	grant, err := g.login(ctx, l, count, now)
	_, waits := errors.AsType[*WaitError](err)
	switch {
	case waits:
	case errors.Is(err, ErrRefused):
		g.limit.failed(now, count...)
	case err == nil && !grant.Factor:
		g.limit.good(count...)
	}
	return grant, err
}

func (g *Gate) login(ctx context.Context, l Login, count []name, now time.Time) (Grant, error) {
	if err := g.active(l.User, now); err != nil {
		return Grant{}, errors.Join(err, g.at(ctx, g.passwords, count, func() error { passwd.Waste(l.Password); return nil }))
	}
	user := l.User.String()
	if l.Challenge != "" {
		if _, err := g.tickets.VerifyPartial(l.Challenge, user, now); err != nil {
			return Grant{}, fmt.Errorf("%w: the challenge: %w", ErrRefused, err)
		}
		if err := g.answer(ctx, user, string(l.Password.Reveal()), now); err != nil {
			return Grant{}, err
		}
		return g.grant(l.User, now)
	}
	realm := g.realms[l.User.Realm]
	if realm == nil {
		return Grant{}, fmt.Errorf("%w: passwords of realm %q cannot be checked here", ErrRefused, l.User.Realm)
	}
	where := g.outside
	if l.User.Realm == RealmPBS {
		where = g.passwords
	}
	if err := g.at(ctx, where, count, func() error { return realm.Check(ctx, l.User.User, l.Password, l.Peer) }); err != nil {
		return Grant{}, err
	}
	factors, err := g.store.TFA()
	if err != nil {
		return Grant{}, err
	}
	challenge, needed := factors.Challenge(user)
	if !needed {
		return g.grant(l.User, now)
	}
	if !challenge.Answerable() {
		return Grant{}, fmt.Errorf("%w: user %s has no second factor that can be checked here", ErrRefused, user)
	}
	t, err := g.tickets.Partial(user, challenge.String(), now, rand.Reader)
	return Grant{l.User, t, "invalid", true}, err
}

// grant makes a ticket.
func (g *Gate) grant(id names.AuthID, now time.Time) (Grant, error) {
	t, err := g.tickets.Login(id.String(), now, rand.Reader)
	return Grant{User: id, Ticket: t, CSRF: g.csrf.Token(id.String(), now)}, err
}

// active refuses who is not in the files, or not any more.
func (g *Gate) active(id names.AuthID, now time.Time) error {
	p, err := g.store.Policy()
	if err != nil {
		return err
	}
	if err := p.Active(id, now); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return nil
}

// answer checks a second factor, and has what that changes on disk before it lets
// anybody in.
func (g *Gate) answer(ctx context.Context, user, text string, now time.Time) error {
	var wrong error
	err := g.store.dir.Change(ctx, confdir.TFA, func(old []byte) ([]byte, error) { // one at a time, under the lock
		c, err := parseTFA(old)
		if err != nil {
			return nil, err
		}
		var changed bool
		failures := g.failures(user)
		changed, wrong = c.Verify(user, text, now, &failures)
		g.setFailures(user, failures)
		if !changed {
			return old, nil
		}
		return c.Append(nil)
	})
	if err == nil && wrong != nil {
		err = fmt.Errorf("%w: %w", ErrRefused, wrong)
	}
	return err
}

func (g *Gate) failures(user string) tfa.Failures {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.factor[user]
}

func (g *Gate) setFailures(user string, f tfa.Failures) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f == (tfa.Failures{}) {
		delete(g.factor, user)
	} else {
		g.factor[user] = f
	}
}

// Unlock ends everything that a user is shut out by for wrong second factors.
func (g *Gate) Unlock(ctx context.Context, id names.AuthID) error {
	g.setFailures(id.String(), tfa.Failures{})
	return g.store.ChangeTFA(ctx, func(c *tfa.Config) error { return c.Unlock(id.String()) })
}
