// Package accounts is who can log in to a server, and the door: users, API tokens,
// their secrets and rights in the files of a configuration directory (see package
// confdir), and who a request is from.
//
// # Store
//
// [Store] reads and changes the files. A change is made on what the file holds at
// that moment, under its lock, and is durable when the call returns. Where several
// files have to change, the lock of user.cfg is taken first and one other at a time
// within it. A user or token is the last to appear and the last to go, so that after
// a crash in between, what is left over belongs to nobody or can be removed again.
//
// # Gate
//
// [Gate] lets people and programs in. A person logs in with a password, which the
// realm of the user checks, and a second factor if there is one, and gets a ticket;
// a ticket in place of a password gets a new one. A program sends the secret of an
// API token with each request; one that was right is not hashed again as long as
// token.shadow has the same hash for it.
//
// Wrong passwords and secrets make the next attempts wait: after 5 in a row for one
// user or token from one address, or 50 passwords for any users from one address,
// attempts are refused without a look for 1 s, then 2 s and so on up to 5 minutes.
// A success, or a quarter of an hour of quiet, ends that. Addresses of IPv6 count by
// their first 64 bits. At most 2 passwords and 2 secrets are hashed at a time, which
// bounds memory to 64 MiB.
//
// # Errors
//
// [ErrRefused] is wrapped when somebody is not let in; its text is for a log, and who
// asks gets no reason. [*WaitError] is one that says when to come again.
// [ErrNoCredentials] is for requests without any. Everything else means that nobody
// could find out: files that cannot be read, a realm that does not answer. Errors of
// changes are those of package access, and confdir's.
package accounts

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Store is the accounts of a configuration directory. It is safe for concurrent use.
type Store struct {
	dir confdir.Dir
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	policy   *access.Policy
	of       [3]confdir.Stamp  // of the files that the policy is made of
	tokens   map[string]string // hashes of secrets; not changed, only replaced
	ofTokens confdir.Stamp
}

// NewStore returns the accounts in a directory. Nothing is read yet.
func NewStore(dir confdir.Dir, log *slog.Logger) *Store {
	return &Store{dir: dir, log: log, now: time.Now}
}

// Dir is where the files are.
func (s *Store) Dir() confdir.Dir { return s.dir }

// policyFiles are what a policy is made of.
var policyFiles = [3]confdir.File{confdir.Users, confdir.ACL, confdir.OwnACL}

// Policy returns who may do what, as the files have it now. They are read again only
// when they changed.
func (s *Store) Policy() (*access.Policy, error) {
	var of [3]confdir.Stamp // older than what is read: a change in between is seen next time
	for i, f := range policyFiles {
		var err error
		if of[i], err = s.dir.Stamp(f); err != nil {
			return nil, err
		}
	}
	if p := s.policyOf(of); p != nil {
		return p, nil
	}
	u, _, err := s.Users()
	if err != nil {
		return nil, err
	}
	a, _, err := s.ACL()
	if err != nil {
		return nil, err
	}
	p, err := access.NewPolicy(u, a)
	if err != nil {
		s.log.Warn("some accounts cannot be read and are not active", "file", confdir.Users.Name, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.policy, s.of = p, of
	return p, nil
}

// policyOf returns the policy if it is of these files.
func (s *Store) policyOf(of [3]confdir.Stamp) *access.Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range of {
		if !of[i].Same(s.of[i]) {
			return nil
		}
	}
	return s.policy
}

// Users returns the users and tokens, and the digest of user.cfg.
func (s *Store) Users() (*access.Users, confdir.Digest, error) {
	b, err := s.dir.Load(confdir.Users)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	u, err := access.ParseUsers(b)
	if err != nil {
		return nil, confdir.Digest{}, fmt.Errorf("%s: %w", confdir.Users.Name, err)
	}
	return u, confdir.DigestOf(b), nil
}

// ACL returns the access control list, and the digest of acl.cfg.
func (s *Store) ACL() (*access.ACL, confdir.Digest, error) {
	pbs, err := s.dir.Load(confdir.ACL)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	own, err := s.dir.Load(confdir.OwnACL)
	if err != nil {
		return nil, confdir.Digest{}, err
	}
	a, err := parseACL(pbs, own)
	return a, confdir.DigestOf(pbs), err
}

func parseACL(pbs, own []byte) (*access.ACL, error) {
	a, err := access.ParseACL(pbs, own)
	if err != nil {
		return nil, fmt.Errorf("%s or %s: %w", confdir.ACL.Name, confdir.OwnACL.Name, err)
	}
	return a, nil
}

// TFA returns the second factors.
func (s *Store) TFA() (*tfa.Config, error) {
	b, err := s.dir.Load(confdir.TFA)
	if err != nil {
		return nil, err
	}
	return parseTFA(b)
}

func parseTFA(b []byte) (*tfa.Config, error) {
	c, err := tfa.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", confdir.TFA.Name, err)
	}
	return c, nil
}

// ChangeUsers changes users and tokens. digest is that which the caller saw, or
// empty.
func (s *Store) ChangeUsers(ctx context.Context, digest string, edit func(*access.Users) error) error {
	return s.dir.Change(ctx, confdir.Users, func(old []byte) ([]byte, error) {
		if err := confdir.DigestOf(old).Check(digest); err != nil {
			return nil, err
		}
		u, err := access.ParseUsers(old)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", confdir.Users.Name, err)
		}
		if err := edit(u); err != nil {
			return nil, err
		}
		return u.Append(nil)
	})
}

// ChangeACL changes the access control list. digest is that which the caller saw, or
// empty.
func (s *Store) ChangeACL(ctx context.Context, digest string, edit func(*access.ACL) error) error {
	return s.dir.ChangeAll(ctx, []confdir.File{confdir.ACL, confdir.OwnACL}, func(old [][]byte) ([][]byte, error) {
		if err := confdir.DigestOf(old[0]).Check(digest); err != nil {
			return nil, err
		}
		a, err := parseACL(old[0], old[1])
		if err != nil {
			return nil, err
		}
		if err := edit(a); err != nil {
			return nil, err
		}
		pbs, err := a.AppendPBS(nil)
		if err != nil {
			return nil, err
		}
		own, err := a.AppendOwn(nil)
		return [][]byte{pbs, own}, err
	})
}

// ChangeTFA changes second factors. It is for management; [Gate] checks answers.
func (s *Store) ChangeTFA(ctx context.Context, edit func(*tfa.Config) error) error {
	return s.dir.Change(ctx, confdir.TFA, func(old []byte) ([]byte, error) {
		c, err := parseTFA(old)
		if err != nil {
			return nil, err
		}
		if err := edit(c); err != nil {
			return nil, err
		}
		return c.Append(nil)
	})
}

// Remove removes a user with everything the user has (tokens, passwords, rights,
// second factors), or a token.
func (s *Store) Remove(ctx context.Context, digest string, id names.AuthID) error {
	return s.ChangeUsers(ctx, digest, func(u *access.Users) error {
		gone, err := u.Remove(id)
		if err != nil {
			return err
		}
		err = s.changeTokens(ctx, func(all map[string]string) {
			for _, t := range gone {
				delete(all, t.String())
			}
		})
		if err == nil && !id.IsToken() {
			err = errors.Join(
				s.ChangeTFA(ctx, func(c *tfa.Config) error { c.RemoveUser(id.String()); return nil }),
				s.removePassword(ctx, id))
		}
		if err != nil {
			return err
		}
		return s.ChangeACL(ctx, "", func(a *access.ACL) error { a.Forget(id); return nil })
	})
}

// NewID returns a random UUID, as PBS has them for secrets of tokens and for the ids of
// second factors.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
