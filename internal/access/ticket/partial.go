package ticket

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// partial marks the data of a ticket that a second factor has to complete.
const partial = "!tfa!"

// Partial makes the ticket that a user gets whose password was right and who has
// a second factor; challenge says in JSON which ones. It is good for nothing but
// to be sent back with the answer.
func (k *Keyring) Partial(user, challenge string, now time.Time, rand io.Reader) (string, error) {
	return k.Sign(API, partial+challenge, user, now, rand)
}

// VerifyPartial returns the challenge of a ticket that [Keyring.Partial] made for
// this user.
func (k *Keyring) VerifyPartial(ticket, user string, now time.Time) (challenge string, err error) {
	data, err := k.Verify(ticket, API, user, now, SecondFactor)
	if err != nil {
		return "", err
	}
	challenge, ok := strings.CutPrefix(data, partial)
	if !ok {
		return "", fmt.Errorf("%w: it is not for a second factor", ErrRefused)
	}
	return challenge, nil
}

// Login makes the ticket of a user.
func (k *Keyring) Login(user string, now time.Time, rand io.Reader) (string, error) {
	return k.Sign(API, user, "", now, rand)
}

// VerifyLogin returns the user of a ticket that [Keyring.Login] made.
func (k *Keyring) VerifyLogin(ticket string, now time.Time) (user string, err error) {
	user, err = k.Verify(ticket, API, "", now, Usual)
	if err == nil && strings.HasPrefix(user, partial) {
		return "", fmt.Errorf("%w: the second factor is missing", ErrRefused)
	}
	return user, err
}

// Looks reports whether a password is a ticket by its form: clients renew a ticket
// by sending it as the password.
func Looks(password []byte) bool { return strings.HasPrefix(string(password), API+":") }
