// Package tfa is the second factor of a login: one-time passwords of an
// authenticator (TOTP) and recovery codes, in the form of PBS's tfa.json. It works
// on values; reading and replacing the file is its caller's.
//
// # File
//
//	{"users":{"ann@pbs":{
//	  "totp":[{"id":"<uuid>","description":"phone","created":1717600000,
//	           "entry":"otpauth://totp/..."}],
//	  "recovery":{"secret":"<16 hex digits>","entries":["<hmac>",null,...],"created":1717600000},
//	  "totp-locked":true,"tfa-locked-until":1717600000}}}
//
// An entry with "enable":false does not count. Once a one-time password was used,
// "entry" is {"totp":"otpauth://...","last-count":<n>}, and passwords of counter n
// and before are not taken again. Other kinds of factors (u2f, webauthn, yubico),
// their settings beside "users", and whatever else is there is kept; these kinds
// cannot be checked here, and who has no other factor cannot log in with a
// password.
//
// # TOTP
//
// RFC 6238: HMAC of the number of periods since 1970, by default SHA-1, 6 digits,
// 30 seconds. The period before and the one after are taken too.
//
// # Recovery codes
//
// Ten codes of 64 bits, "0123-4567-89ab-cdef", each good once. Kept is the
// HMAC-SHA256 of each in hexadecimal; the key is the text of "secret" as it stands
// there. A code that was used is null.
//
// # Locks
//
// After 8 wrong one-time passwords in a row, "totp-locked" is set and only a
// recovery code helps, or somebody who unlocks. After 100 wrong answers in a row of
// any kind, "tfa-locked-until" shuts the user out for an hour. The numbers of
// failures are not in the file: they are the caller's to keep, see [Failures].
//
// # Errors
//
// Parse wraps [ErrFormat]. A wrong answer wraps [ErrWrong], a user that is shut out
// [ErrLocked].
//
// # Source
//
// proxmox-rs: proxmox-tfa/src/{totp,types}.rs, api/{mod,recovery}.rs;
// proxmox-backup: src/config/tfa.rs.
package tfa

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

var (
	// ErrFormat is wrapped when a text is no tfa.json, or not what is to stand in
	// it.
	ErrFormat = errors.New("not a valid second factor")
	// ErrWrong is wrapped when an answer is wrong.
	ErrWrong = errors.New("wrong second factor")
	// ErrLocked is wrapped when a user is shut out.
	ErrLocked = errors.New("the second factor is locked")
	// ErrUnknown is wrapped when there is no such factor.
	ErrUnknown = errors.New("no such second factor")
)

// Recovery is the id under which recovery codes are listed.
const Recovery = "recovery"

// Config is the content of tfa.json. The zero value has no factors.
type Config struct {
	users map[string]*user
	rest  map[string]json.RawMessage // beside "users"
}

// user is what a user has.
type user struct {
	TOTP        []entry         `json:"totp,omitempty"`
	U2F         json.RawMessage `json:"u2f,omitempty"`
	WebAuthn    json.RawMessage `json:"webauthn,omitempty"`
	Recovery    *recovery       `json:"recovery,omitempty"`
	Yubico      json.RawMessage `json:"yubico,omitempty"`
	TOTPLocked  bool            `json:"totp-locked,omitempty"`
	LockedUntil int64           `json:"tfa-locked-until,omitempty"` // seconds since 1970
}

// entry is a TOTP authenticator.
type entry struct {
	ID          string `json:"id"`
	Description string `json:"description,omitempty"`
	Created     int64  `json:"created"` // seconds since 1970
	Enable      *bool  `json:"enable,omitempty"`
	Entry       used   `json:"entry"`
}

func (e entry) enabled() bool { return e.Enable == nil || *e.Enable }

// used is an authenticator with what was used of it.
type used struct {
	totp TOTP
	last int64 // counter; never: none was used
}

// never is before every counter.
const never = -1 << 63

// form is used once something was.
type form struct {
	TOTP string `json:"totp"`
	Last int64  `json:"last-count"`
}

// MarshalJSON implements json.Marshaler.
func (u used) MarshalJSON() ([]byte, error) {
	if u.last == never {
		return marshal(u.totp.URI())
	}
	return marshal(form{u.totp.URI(), u.last})
}

// UnmarshalJSON implements json.Unmarshaler.
func (u *used) UnmarshalJSON(b []byte) (err error) {
	f := form{Last: never}
	if b[0] == '{' {
		err = json.Unmarshal(b, &f)
	} else {
		err = json.Unmarshal(b, &f.TOTP)
	}
	if err != nil {
		return err
	}
	u.last = f.Last
	u.totp, err = ParseTOTP(f.TOTP)
	return err
}

// marshal is json.Marshal without the care for HTML.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// Parse reads tfa.json; nothing is an empty file.
func Parse(text []byte) (*Config, error) {
	c := &Config{users: map[string]*user{}, rest: map[string]json.RawMessage{}}
	if len(bytes.TrimSpace(text)) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(text, &c.rest); err != nil {
		return nil, hide(err)
	}
	if users, ok := c.rest["users"]; ok {
		d := json.NewDecoder(bytes.NewReader(users))
		d.DisallowUnknownFields() // they could mean that somebody is shut out
		if err := d.Decode(&c.users); err != nil {
			return nil, hide(err)
		}
		delete(c.rest, "users")
	}
	for name, u := range c.users {
		if u == nil {
			return nil, fmt.Errorf("%w: user %q has nothing", ErrFormat, name)
		}
		for _, e := range u.TOTP {
			if e.ID == "" || e.Entry.totp.Secret.Empty() {
				return nil, fmt.Errorf("%w: user %q has an authenticator without id or entry", ErrFormat, name)
			}
		}
	}
	return c, nil
}

// hide says of an error in JSON where it is and not what is there, which may be a
// secret.
func hide(err error) error {
	if errors.Is(err, ErrFormat) {
		return err
	}
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("%w: no JSON at byte %d", ErrFormat, s.Offset)
	}
	if s, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%w: another type is needed for %s", ErrFormat, s.Field)
	}
	return fmt.Errorf("%w: an unknown or damaged field", ErrFormat)
}

// Append appends the text of tfa.json to b.
func (c *Config) Append(b []byte) ([]byte, error) {
	all := map[string]any{}
	for k, v := range c.rest {
		all[k] = v
	}
	if len(c.users) > 0 {
		all["users"] = c.users
	}
	text, err := marshal(all)
	return append(b, text...), err
}

// Info describes a factor; it has no secrets.
type Info struct {
	Type        string // "totp" or "recovery"
	ID          string
	Description string
	Created     time.Time
	Enabled     bool
}

// List returns the factors of a user that can be checked here.
func (c *Config) List(name string) []Info {
	u := c.users[name]
	if u == nil {
		return nil
	}
	var list []Info
	if u.Recovery != nil {
		list = append(list, Info{Recovery, Recovery, "", time.Unix(u.Recovery.Created, 0), true})
	}
	for _, e := range u.TOTP {
		list = append(list, Info{"totp", e.ID, e.Description, time.Unix(e.Created, 0), e.enabled()})
	}
	return list
}

// Locks returns what a user is shut out of. until is zero if it is over.
func (c *Config) Locks(name string, now time.Time) (totp bool, until time.Time) {
	u := c.users[name]
	if u == nil {
		return false, until
	}
	if u.LockedUntil > now.Unix() {
		until = time.Unix(u.LockedUntil, 0)
	}
	return u.TOTPLocked, until
}

// Unlock lets a user in again.
func (c *Config) Unlock(name string) error {
	u := c.users[name]
	if u == nil {
		return fmt.Errorf("user %s: %w", name, ErrUnknown)
	}
	u.TOTPLocked, u.LockedUntil = false, 0
	return nil
}

func (c *Config) user(name string) *user {
	if c.users == nil {
		c.users = map[string]*user{}
	}
	if c.users[name] == nil {
		c.users[name] = &user{}
	}
	return c.users[name]
}

// NewID makes an id for an authenticator: a random UUID.
func NewID(rand io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("id of an authenticator: %w", err)
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}

// AddTOTP adds an authenticator, after its user has shown with a code that it
// works. id is to be unique, and not of another factor.
func (c *Config) AddTOTP(name, id, description string, totp TOTP, code string, now time.Time) error {
	if err := totp.enrol(); err != nil {
		return err
	}
	count, ok := totp.Check(code, now)
	if !ok {
		return fmt.Errorf("%w: the code does not fit; are the clocks right?", ErrWrong)
	}
	u := c.user(name)
	u.TOTP = append(u.TOTP, entry{id, description, now.Unix(), nil, used{totp, count}})
	return nil
}

// AddRecovery gives a user new recovery codes, and returns them: nobody can ever
// see them again. Codes that were there are no longer good.
func (c *Config) AddRecovery(name string, now time.Time, rand io.Reader) ([]string, error) {
	r, codes, err := newRecovery(now, rand)
	if err != nil {
		return nil, err
	}
	c.user(name).Recovery = r
	return codes, nil
}

// Change gives an authenticator another description, or switches it on or off.
func (c *Config) Change(name, id, description string, enabled bool) error {
	if u := c.users[name]; u != nil {
		if i := u.index(id); i >= 0 {
			u.TOTP[i].Description, u.TOTP[i].Enable = description, nil
			if !enabled {
				u.TOTP[i].Enable = &enabled
			}
			return nil
		}
	}
	return fmt.Errorf("%s of %s: %w", id, name, ErrUnknown)
}

// Remove takes a factor away.
func (c *Config) Remove(name, id string) error {
	u := c.users[name]
	switch {
	case u != nil && id == Recovery && u.Recovery != nil:
		u.Recovery = nil
	case u != nil && u.index(id) >= 0:
		u.TOTP = slices.Delete(u.TOTP, u.index(id), u.index(id)+1)
	default:
		return fmt.Errorf("%s of %s: %w", id, name, ErrUnknown)
	}
	if u.empty() && !u.TOTPLocked && u.LockedUntil == 0 {
		delete(c.users, name)
	}
	return nil
}

// RemoveUser takes all of a user away.
func (c *Config) RemoveUser(name string) { delete(c.users, name) }

func (u *user) index(id string) int {
	return slices.IndexFunc(u.TOTP, func(e entry) bool { return e.ID == id })
}

// empty reports whether a user has no factor at all.
func (u *user) empty() bool {
	return len(u.TOTP) == 0 && u.Recovery == nil && !u.foreign()
}

// foreign reports whether a user has factors that cannot be checked here.
func (u *user) foreign() bool {
	for _, list := range []json.RawMessage{u.U2F, u.WebAuthn, u.Yubico} {
		var all []struct {
			Enable *bool `json:"enable"`
		}
		if len(list) > 0 && json.Unmarshal(list, &all) != nil {
			return true // whatever it is
		}
		for _, e := range all {
			if e.Enable == nil || *e.Enable {
				return true
			}
		}
	}
	return false
}
