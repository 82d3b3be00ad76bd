package ticket

import (
	"crypto/hmac"
	"crypto/sha3"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

// csrfSize is the length of a new key, in bytes.
const csrfSize = 64

// CSRF makes and checks CSRF tokens. It is safe for concurrent use, and does not
// show its key when it is printed.
type CSRF struct{ key []byte }

// ParseCSRF reads csrf.key.
func ParseCSRF(text []byte) (CSRF, error) {
	if len(text) == 0 {
		return CSRF{}, fmt.Errorf("%w: csrf.key is empty", ErrKey)
	}
	if key, err := decode64(string(text)); err == nil {
		return CSRF{key}, nil
	}
	return CSRF{append([]byte(nil), text...)}, nil
}

// GenerateCSRF makes the text of csrf.key.
func GenerateCSRF(rand io.Reader) ([]byte, error) {
	var key [csrfSize]byte
	if _, err := io.ReadFull(rand, key[:]); err != nil {
		return nil, fmt.Errorf("make a key for CSRF tokens: %w", err)
	}
	return []byte(base64.RawStdEncoding.EncodeToString(key[:])), nil
}

// Token makes a token for a user.
func (c CSRF) Token(user string, now time.Time) string {
	at := fmt.Sprintf("%08X", now.Unix())
	return at + ":" + base64.RawStdEncoding.EncodeToString(c.sum(at, user))
}

// Check refuses a token that is not of this user, or too old.
func (c CSRF) Check(token, user string, now time.Time) error {
	at, text, _ := strings.Cut(token, ":")
	seconds, ok := parseTime(at)
	sum, err := decode64(text)
	if !ok || err != nil {
		return fmt.Errorf("%w: not a CSRF token", ErrRefused)
	}
	if !hmac.Equal(sum, c.sum(fmt.Sprintf("%08X", seconds), user)) {
		return fmt.Errorf("%w: the CSRF token is of another user or server", ErrRefused)
	}
	return Usual.check(time.Unix(seconds, 0), now)
}

func (c CSRF) sum(at, user string) []byte {
	h := hmac.New(func() hash.Hash { return sha3.New256() }, c.key)
	_, _ = io.WriteString(h, at+":"+user+":")
	return h.Sum(nil)
}

// Format implements fmt.Formatter: no verb shows the key.
func (CSRF) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "ticket.CSRF(redacted)") }

// MarshalText implements encoding.TextMarshaler.
func (CSRF) MarshalText() ([]byte, error) { return []byte("ticket.CSRF(redacted)"), nil }
