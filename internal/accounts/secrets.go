package accounts

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/passwd"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// RealmPBS is the realm of the users whose passwords are in shadow.json.
const RealmPBS = "pbs"

// SetPassword gives a user of realm pbs, who is there, another password, of 8 to 64
// characters.
func (s *Store) SetPassword(ctx context.Context, id names.AuthID, password secret.Secret) error {
	if id.Realm != RealmPBS || id.IsToken() {
		return fmt.Errorf("password of %s: %w: only users of realm %s have one here", id, access.ErrInvalid, RealmPBS)
	}
	text := string(password.Reveal())
	if n := utf8.RuneCountInString(text); n < 8 || n > 64 || !utf8.ValidString(text) || hasControl(text) {
		return fmt.Errorf("password of %s: %w: want 8 to 64 characters, without control characters", id, access.ErrInvalid)
	}
	u, _, err := s.Users()
	if err != nil {
		return err
	}
	if _, err := u.Find(id); err != nil {
		return err
	}
	hash, err := passwd.Hash(password, rand.Reader)
	if err != nil {
		return err
	}
	return s.changeShadow(ctx, func(all map[string]json.RawMessage) {
		all[id.User], _ = json.Marshal(hash) // a string
	})
}

func hasControl(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return true
		}
	}
	return false
}

func (s *Store) removePassword(ctx context.Context, id names.AuthID) error {
	if id.Realm != RealmPBS {
		return nil
	}
	return s.changeShadow(ctx, func(all map[string]json.RawMessage) { delete(all, id.User) })
}

// changeShadow changes shadow.json, which has the form that PBS writes: sorted and
// indented.
func (s *Store) changeShadow(ctx context.Context, edit func(map[string]json.RawMessage)) error {
	return s.dir.Change(ctx, confdir.Shadow, func(old []byte) ([]byte, error) {
		all, err := parseShadow(old)
		if err != nil {
			return nil, err
		}
		edit(all)
		if len(all) == 0 && len(old) == 0 {
			return old, nil
		}
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		err = e.Encode(all)
		return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
	})
}

func parseShadow(b []byte) (map[string]json.RawMessage, error) {
	all := map[string]json.RawMessage{}
	if len(b) > 0 && json.Unmarshal(b, &all) != nil || all == nil {
		return nil, fmt.Errorf("%s is damaged: it is no object in JSON", confdir.Shadow.Name) // without what is there
	}
	return all, nil
}

// verifyPassword checks the password of a user of realm pbs.
func (s *Store) verifyPassword(ctx context.Context, user string, password secret.Secret) error {
	b, err := s.dir.Load(confdir.Shadow)
	if err != nil {
		return err
	}
	all, err := parseShadow(b)
	if err != nil {
		return err
	}
	var hash string
	if all[user] == nil || json.Unmarshal(all[user], &hash) != nil {
		passwd.Waste(password)
		return fmt.Errorf("%w: no password is set", ErrRefused)
	}
	if err := passwd.Verify(password, hash); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if passwd.Outdated(hash) {
		if err := s.renew(ctx, user, password, hash); err != nil {
			s.log.Warn("the hash of a password is of an old kind and could not be replaced", "user", user, "error", err)
		}
	}
	return nil
}

// renew replaces a hash, unless somebody else has done so.
func (s *Store) renew(ctx context.Context, user string, password secret.Secret, old string) error {
	hash, err := passwd.Hash(password, rand.Reader)
	if err != nil {
		return err
	}
	return s.changeShadow(ctx, func(all map[string]json.RawMessage) {
		var now string
		if json.Unmarshal(all[user], &now) == nil && now == old {
			all[user], _ = json.Marshal(hash)
		}
	})
}

// AddToken adds an API token and returns its secret: nobody can ever see it again.
func (s *Store) AddToken(ctx context.Context, digest string, a access.Account) (secret.Secret, error) {
	if !a.ID.IsToken() {
		return secret.Secret{}, fmt.Errorf("%s: %w: it is no API token", a.ID, access.ErrInvalid)
	}
	return s.newSecret(ctx, digest, a.ID, func(u *access.Users) error { return u.Add(a) })
}

// RenewToken gives an API token another secret, and returns it.
func (s *Store) RenewToken(ctx context.Context, digest string, id names.AuthID) (secret.Secret, error) {
	return s.newSecret(ctx, digest, id, func(u *access.Users) error {
		if !id.IsToken() {
			return fmt.Errorf("%s: %w: it is no API token", id, access.ErrInvalid)
		}
		_, err := u.Find(id)
		return err
	})
}

func (s *Store) newSecret(ctx context.Context, digest string, id names.AuthID, edit func(*access.Users) error) (secret.Secret, error) {
	text := secret.New([]byte(NewID()))
	hash, err := passwd.Hash(text, rand.Reader)
	if err != nil {
		return secret.Secret{}, err
	}
	err = s.ChangeUsers(ctx, digest, func(u *access.Users) error {
		if err := edit(u); err != nil {
			return err
		}
		return s.changeTokens(ctx, func(all map[string]string) { all[id.String()] = hash })
	})
	if err != nil {
		return secret.Secret{}, err
	}
	return text, nil
}

// changeTokens changes token.shadow, which is JSON in one line.
func (s *Store) changeTokens(ctx context.Context, edit func(map[string]string)) error {
	return s.dir.Change(ctx, confdir.TokenShadow, func(old []byte) ([]byte, error) {
		all, err := parseTokens(old)
		if err != nil {
			return nil, err
		}
		edit(all)
		if len(all) == 0 && len(old) == 0 {
			return old, nil
		}
		return json.Marshal(all)
	})
}

func parseTokens(b []byte) (map[string]string, error) {
	all := map[string]string{}
	if len(b) > 0 && json.Unmarshal(b, &all) != nil {
		return nil, fmt.Errorf("%s is damaged: it is no object of strings in JSON", confdir.TokenShadow.Name)
	}
	if all == nil {
		all = map[string]string{} // "null", as PBS reads it too
	}
	return all, nil
}

// tokenHash returns the hash of a token's secret.
func (s *Store) tokenHash(id names.AuthID) (string, error) {
	of, err := s.dir.Stamp(confdir.TokenShadow) // older than what is read, as in Policy
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	all, fresh := s.tokens, s.tokens != nil && of.Same(s.ofTokens)
	s.mu.Unlock()
	if !fresh {
		b, err := s.dir.Load(confdir.TokenShadow)
		if err != nil {
			return "", err
		}
		if all, err = parseTokens(b); err != nil {
			return "", err
		}
		s.mu.Lock()
		s.tokens, s.ofTokens = all, of
		s.mu.Unlock()
	}
	hash, ok := all[id.String()]
	if !ok {
		return "", errNoSecret
	}
	return hash, nil
}

var errNoSecret = errors.New("the API token has no secret")
