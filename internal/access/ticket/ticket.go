// Package ticket makes and checks what a server hands out at a login: the ticket,
// which stands for the password from then on, and the token that goes with it
// against forged requests.
//
// # Ticket
//
//	PBS:ann@pbs:66F00000::Yskxj5E5Cvdbot4Zt...
//
//	prefix     PBS, or another for tickets of another use
//	data       a user, or what the use needs; percent-encoded: ":", control
//	           characters, all that is not ASCII, and unlike in PBS "%" too, or
//	           the ticket of a user "%C3%B6@pbs" would be one of "ö@pbs"
//	time       seconds since 1970, at least 8 hexadecimal digits, upper case
//	           an empty field
//	signature  base64 without padding
//
// Signed is all before "::", and then, where there is a context, ":" and the
// context. A context is known to both sides and not in the ticket; with another
// one the signature does not fit. Keys are Ed25519, which sign the text itself, or
// RSA (PKCS #1 v1.5) over its SHA-256, as older servers have.
//
// A ticket is good from 5 minutes before its time, for clocks that differ, up to
// 2 hours behind it. One for a second factor, [Partial], is good for 10 minutes.
//
// # CSRF token
//
//	66F00000:jC9K5SozQa3iGLv7FtY3LU...
//
// The time, and HMAC-SHA3-256 over "<time>:<user>:" in base64 without padding,
// under a key of 64 bytes that csrf.key holds in base64 without padding. A csrf.key
// that is not base64, as older servers have, is the key itself, byte for byte. The
// tokens that those servers made, over SHA-256, are not taken: they were good for
// 2 hours.
//
// # Errors
//
// Every refusal wraps [ErrRefused] and says in words for a log why. Who sent the
// ticket is to be told nothing but that it was refused.
//
// # Source
//
// proxmox-rs: proxmox-auth-api/src/{ticket,auth_key}.rs, api/{access,ticket}.rs;
// proxmox-backup: src/auth.rs, src/auth_helpers.rs, src/tools/ticket.rs.
package ticket

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/access/percent"
)

// ErrRefused is wrapped when a ticket or token is not good.
var ErrRefused = errors.New("refused")

// Prefixes of tickets.
const (
	API      = "PBS"     // for requests; the data is a user, or as in Partial
	Terminal = "PBSTERM" // for a terminal; no data; the context is of TerminalContext
)

// Window says at which ages a ticket is good.
type Window struct {
	Ahead time.Duration // how far in the future its time may be
	Age   time.Duration // how far in the past
}

// The windows.
var (
	Usual        = Window{5 * time.Minute, 2 * time.Hour}
	SecondFactor = Window{time.Minute, 10 * time.Minute}
)

// TerminalContext is the context of a ticket for a terminal.
func TerminalContext(user, path string, port uint16) string {
	return user + path + strconv.Itoa(int(port))
}

// check refuses a time that is outside.
func (w Window) check(at, now time.Time) error {
	switch age := now.Unix() - at.Unix(); { // seconds: that is all a ticket has
	case age < -int64(w.Ahead/time.Second):
		return fmt.Errorf("%w: it is from the future, %s", ErrRefused, at.UTC().Format(time.RFC3339))
	case age > int64(w.Age/time.Second):
		return fmt.Errorf("%w: it expired, it is of %s", ErrRefused, at.UTC().Format(time.RFC3339))
	}
	return nil
}

// Sign makes a ticket. rand is not needed for the signature, but blinds the key
// of some kinds.
func (k *Keyring) Sign(prefix, data, context string, now time.Time, rand io.Reader) (string, error) {
	text := body(prefix, data, now.Unix())
	sig, err := k.sign(signed(text, context), rand)
	if err != nil {
		return "", fmt.Errorf("sign a ticket: %w", err)
	}
	return text + "::" + base64.RawStdEncoding.EncodeToString(sig), nil
}

// Verify returns the data of a ticket that this keyring signed, for that use and
// context, and not too long ago.
func (k *Keyring) Verify(ticket, prefix, context string, now time.Time, w Window) (data string, err error) {
	t, err := parse(ticket)
	if err != nil {
		return "", err
	}
	if t.prefix != prefix {
		return "", fmt.Errorf("%w: it is for %q, not for %q", ErrRefused, t.prefix, prefix)
	}
	if err := w.check(time.Unix(t.at, 0), now); err != nil {
		return "", err
	}
	// What is checked is made anew of what was read, so that one ticket has one form.
	if !k.verify(signed(body(t.prefix, t.data, t.at), context), t.sig) {
		return "", fmt.Errorf("%w: the signature does not fit", ErrRefused)
	}
	return t.data, nil
}

// Info is what a client gets to see of a ticket that is in a cookie out of its
// reach: the ticket without its signature.
func Info(ticket string) string {
	return ticket[:strings.LastIndexByte(ticket, ':')+1] + "ticketinfo"
}

func body(prefix, data string, at int64) string {
	return fmt.Sprintf("%s:%s:%08X", encode(prefix), encode(data), at)
}

func signed(text, context string) []byte {
	if context != "" {
		text += ":" + context
	}
	return []byte(text)
}

// parsed is a ticket in its parts.
type parsed struct {
	prefix, data string
	at           int64
	sig          []byte
}

func parse(s string) (t parsed, err error) {
	bad := func(why string) (parsed, error) { return t, fmt.Errorf("%w: not a ticket: %s", ErrRefused, why) }
	f := strings.SplitN(s, ":", 5)
	if len(f) != 5 || f[3] != "" {
		return bad("want <prefix>:<data>:<time>::<signature>")
	}
	t.prefix, t.data = percent.Decode(f[0]), percent.Decode(f[1])
	if !utf8.ValidString(t.prefix) || !utf8.ValidString(t.data) {
		return bad("not UTF-8")
	}
	var ok bool
	if t.at, ok = parseTime(f[2]); !ok {
		return bad("no time")
	}
	if t.sig, err = decode64(f[4]); err != nil {
		return bad("the signature is not base64")
	}
	return t, nil
}

// parseTime reads seconds in the form that they are written in.
func parseTime(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 16, 64)
	return n, err == nil && n >= 0 && s == fmt.Sprintf("%08X", n)
}

// decode64 reads base64 of one form only.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(0)
	}
	return base64.RawStdEncoding.Strict().DecodeString(s)
}

// encode writes what must not stand in a field as %XX.
func encode(s string) string {
	return percent.Encode(s, func(c byte) bool { return c < ' ' || c >= 0x7f || c == ':' || c == '%' })
}
