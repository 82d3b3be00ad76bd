package access

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
)

// Users is the content of user.cfg: users and their API tokens. The zero value has
// root@pam alone. It is not safe for changes while others use it.
//
//	user: ann@pbs                 token: ann@pbs!nas
//		comment ...                   comment ...
//		email ann@example.com         enable false
//		enable false                  expire 1767225600
//		expire 1767225600
//		firstname Ann
//		lastname ...
//
// enable is true and expire is 0, never, unless they are written. expire is in
// seconds since 1970; from then on the user or token is not active.
type Users struct{ file sectionconfig.File }

// Account is a user or a token.
type Account struct {
	ID       names.AuthID
	Comment  string
	Disabled bool
	Expires  time.Time // zero: never; whole seconds

	FirstName, LastName, Email string // of users
}

// Types of sections.
const (
	kindUser  = "user"
	kindToken = "token"
)

// ParseUsers reads user.cfg.
func ParseUsers(text []byte) (*Users, error) {
	f, err := sectionconfig.Parse(text)
	if err != nil {
		return nil, err
	}
	return &Users{*f}, nil
}

// Append appends the text of user.cfg to b.
func (u *Users) Append(b []byte) ([]byte, error) { return u.file.Append(b) }

// List returns the users in the order of the file; root@pam is always among them.
// Its error names the accounts that could not be read; those are left out.
func (u *Users) List() ([]Account, error) {
	list, err := u.list(kindUser)
	if !slices.ContainsFunc(list, func(a Account) bool { return a.ID == Root() }) && u.file.Find(Root().String()) == nil {
		list = append(list, implied())
	}
	return list, err
}

// Tokens returns the tokens of a user; of everybody, if user is the zero value.
func (u *Users) Tokens(user names.AuthID) ([]Account, error) {
	list, err := u.list(kindToken)
	if user != (names.AuthID{}) {
		list = slices.DeleteFunc(list, func(a Account) bool { return userOf(a.ID) != user })
	}
	return list, err
}

func (u *Users) list(kind string) (list []Account, err error) {
	var bad []string
	for s := range u.file.Of(kind) {
		a, err := account(s)
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		list = append(list, a)
	}
	if bad != nil {
		return list, fmt.Errorf("%w: %s", ErrInvalid, strings.Join(bad, "; "))
	}
	return list, nil
}

// Find returns a user or token.
func (u *Users) Find(id names.AuthID) (Account, error) {
	s := u.section(id)
	switch {
	case s != nil:
		return account(s)
	case id == Root():
		return implied(), nil
	}
	return Account{}, fmt.Errorf("%s %s: %w", kindOf(id), id, ErrUnknown)
}

// implied is root@pam where no file speaks of it.
func implied() Account { return Account{ID: Root(), Comment: "may do everything"} }

func kindOf(id names.AuthID) string {
	if id.IsToken() {
		return kindToken
	}
	return kindUser
}

func (u *Users) section(id names.AuthID) *sectionconfig.Section {
	if s := u.file.Find(id.String()); s != nil && s.Type == kindOf(id) {
		return s
	}
	return nil
}

// account reads a section.
func account(s *sectionconfig.Section) (a Account, err error) {
	if a.ID, err = names.ParseAuthID(s.ID); err != nil {
		return a, err
	}
	if kindOf(a.ID) != s.Type {
		return a, fmt.Errorf("%s is not the id of a %s: %w", s.ID, s.Type, ErrInvalid)
	}
	a.Comment, _ = s.Get("comment")
	a.FirstName, _ = s.Get("firstname")
	a.LastName, _ = s.Get("lastname")
	a.Email, _ = s.Get("email")
	enabled, err := s.Bool("enable", true)
	if err != nil {
		return a, err
	}
	a.Disabled = !enabled
	expire, err := s.Int("expire", 0)
	if err != nil {
		return a, err
	}
	if expire < 0 {
		return a, fmt.Errorf("section %q, expire: %w: %d is before 1970", s.ID, ErrInvalid, expire)
	}
	if expire > 0 {
		a.Expires = time.Unix(expire, 0)
	}
	return a, nil
}

// Add adds a user, or a token of a user that is there.
func (u *Users) Add(a Account) error {
	if err := a.Check(); err != nil {
		return err
	}
	if a.ID.IsToken() {
		if _, err := u.Find(userOf(a.ID)); err != nil {
			return err
		}
	}
	s, fresh := u.file.Add(kindOf(a.ID), a.ID.String())
	if !fresh {
		return fmt.Errorf("%s %s: %w", kindOf(a.ID), a.ID, ErrExists)
	}
	a.write(s)
	return nil
}

// Change gives a user or token that is there other values.
func (u *Users) Change(a Account) error {
	if err := a.Check(); err != nil {
		return err
	}
	s := u.section(a.ID)
	if s == nil && a.ID == Root() {
		s, _ = u.file.Add(kindUser, a.ID.String())
	}
	if s == nil {
		return fmt.Errorf("%s %s: %w", kindOf(a.ID), a.ID, ErrUnknown)
	}
	a.write(s)
	return nil
}

// Remove removes a user with the user's tokens, or a token, and returns all that
// went: their secrets, entries of the list and second factors have to go too.
func (u *Users) Remove(id names.AuthID) ([]names.AuthID, error) {
	if id == Root() {
		return nil, fmt.Errorf("user %s cannot be removed: %w", id, ErrInvalid)
	}
	if u.section(id) == nil {
		return nil, fmt.Errorf("%s %s: %w", kindOf(id), id, ErrUnknown)
	}
	gone := []names.AuthID{id}
	u.file.Remove(id.String())
	if !id.IsToken() {
		tokens, _ := u.Tokens(id) // one that cannot be read keeps its section, and is of no use
		for _, t := range tokens {
			u.file.Remove(t.ID.String())
			gone = append(gone, t.ID)
		}
	}
	return gone, nil
}

// write puts values into a section; what is as it would be without a line gets
// one only where one was.
func (a Account) write(s *sectionconfig.Section) {
	put := func(key, value, without string) {
		_, had := s.Get(key)
		switch {
		case value != without:
			s.Set(key, value)
		case had && without != "":
			s.Set(key, without)
		default:
			s.Set(key)
		}
	}
	put("comment", a.Comment, "")
	put("enable", fmt.Sprint(!a.Disabled), "true")
	expire := "0"
	if !a.Expires.IsZero() {
		expire = fmt.Sprint(a.Expires.Unix())
	}
	put("expire", expire, "0")
	if !a.ID.IsToken() {
		put("email", a.Email, "")
		put("firstname", a.FirstName, "")
		put("lastname", a.LastName, "")
	}
}

// Check reports values that PBS would not read.
func (a Account) Check() error {
	id := a.ID.String()
	if _, err := names.ParseAuthID(id); err != nil {
		return err
	}
	user := userOf(a.ID).String()
	switch {
	case len(user) < 3 || len(user) > 64:
		return fmt.Errorf("user %s: %w: a user has 3 to 64 bytes with the realm", user, ErrInvalid)
	case len(a.ID.Realm) < 2 || len(a.ID.Realm) > 32:
		return fmt.Errorf("user %s: %w: a realm has 2 to 32 bytes", user, ErrInvalid)
	case a.ID.IsToken() && (len(a.ID.Token) < 3 || len(a.ID.Token) > 64):
		return fmt.Errorf("token %s: %w: its name has 3 to 64 bytes", id, ErrInvalid)
	case !a.Expires.IsZero() && a.Expires.Unix() <= 0:
		return fmt.Errorf("%s: %w: it cannot expire before 1970", id, ErrInvalid)
	}
	for _, f := range []struct {
		name, value string
		least, most int // characters, unless it is empty
	}{
		{"comment", a.Comment, 0, 128},
		{"first name", a.FirstName, 2, 64},
		{"last name", a.LastName, 2, 64},
		{"e-mail address", a.Email, 2, 64},
	} {
		n := utf8.RuneCountInString(f.value)
		switch {
		case !utf8.ValidString(f.value) || strings.ContainsFunc(f.value, unicode.IsControl) || strings.TrimSpace(f.value) != f.value:
			return fmt.Errorf("%s: %w: the %s must be one line without control characters and without white space around it", id, ErrInvalid, f.name)
		case f.value != "" && n < f.least || n > f.most:
			return fmt.Errorf("%s: %w: the %s has %d to %d characters", id, ErrInvalid, f.name, f.least, f.most)
		}
	}
	return nil
}
