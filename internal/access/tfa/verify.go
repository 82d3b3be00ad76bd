package tfa

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxTOTP  = 8         // wrong codes in a row
	maxAny   = 100       // wrong answers in a row
	lockTime = time.Hour // after that many
)

// Failures are the numbers of wrong answers of a user in a row. They are kept from
// one answer to the next, as long as the server runs.
type Failures struct{ TOTP, Any int }

// Challenge is what a user is asked who has a second factor. In JSON it is what
// clients read in the data of a ticket.
type Challenge struct {
	TOTP     bool   `json:"totp,omitempty"`
	Recovery *[]int `json:"recovery,omitempty"` // which codes are left

	foreign bool // the user has factors that cannot be checked here
}

// String is the challenge in JSON.
func (c Challenge) String() string {
	b, err := json.Marshal(c)
	if err != nil {
		panic("tfa: " + err.Error()) // booleans and integers
	}
	return string(b)
}

// Answerable reports whether there is an answer to the challenge that can be
// checked here.
func (c Challenge) Answerable() bool { return c.TOTP || c.Recovery != nil && len(*c.Recovery) > 0 }

// Challenge returns what a user has to be asked. needed is false if the password
// is enough.
func (c *Config) Challenge(name string) (ch Challenge, needed bool) {
	u := c.users[name]
	if u == nil {
		return ch, false
	}
	for _, e := range u.TOTP {
		ch.TOTP = ch.TOTP || e.enabled()
	}
	if u.Recovery != nil {
		left := u.Recovery.left()
		ch.Recovery = &left
	}
	ch.foreign = u.foreign()
	return ch, ch.TOTP || ch.Recovery != nil || ch.foreign
}

// Verify checks the answer of a user, "totp:<code>" or "recovery:<code>". Whatever
// it returns, the configuration has to be saved before the user is let in, if it
// changed: a code is good once. f has the failures so far, and is changed.
func (c *Config) Verify(name, answer string, now time.Time, f *Failures) (changed bool, err error) {
	u := c.users[name]
	if u == nil {
		return false, fmt.Errorf("%w: user %s has none", ErrUnknown, name)
	}
	if _, until := c.Locks(name, now); !until.IsZero() {
		return false, fmt.Errorf("%w for user %s until %s", ErrLocked, name, until.UTC().Format(time.RFC3339))
	}
	kind, code, _ := strings.Cut(answer, ":")
	switch kind {
	case "totp":
		if u.TOTPLocked {
			return false, fmt.Errorf("%w: one-time passwords of user %s, after too many wrong ones; a recovery code unlocks them", ErrLocked, name)
		}
		err = u.useTOTP(code, now)
	case "recovery":
		err = fmt.Errorf("%w: recovery code", ErrWrong)
		if u.Recovery != nil && u.Recovery.use(code) {
			u.TOTPLocked, u.LockedUntil, err = false, 0, nil
		}
	default:
		err = fmt.Errorf("%w: of a kind that is not known here", ErrWrong)
	}
	if err == nil {
		*f = Failures{}
		return true, nil
	}
	f.Any++
	if kind == "totp" {
		f.TOTP++
	}
	if f.TOTP >= maxTOTP && !u.TOTPLocked {
		u.TOTPLocked, changed = true, true
		err = errors.Join(err, fmt.Errorf("%w: one-time passwords of user %s, after %d wrong ones", ErrLocked, name, f.TOTP))
	}
	if f.Any >= maxAny {
		u.LockedUntil, changed = now.Add(lockTime).Unix(), true
		err = errors.Join(err, fmt.Errorf("%w for user %s for %v, after %d wrong answers", ErrLocked, name, lockTime, f.Any))
	}
	return changed, err
}

// useTOTP takes a code of one of the user's authenticators, once.
func (u *user) useTOTP(code string, now time.Time) error {
	for i := range u.TOTP {
		e := &u.TOTP[i]
		if !e.enabled() {
			continue
		}
		count, ok := e.Entry.totp.Check(code, now)
		switch {
		case !ok:
		case count <= e.Entry.last:
			return fmt.Errorf("%w: the one-time password was used before", ErrWrong)
		default:
			e.Entry.last = count
			return nil
		}
	}
	return fmt.Errorf("%w: one-time password", ErrWrong)
}
