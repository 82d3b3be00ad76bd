// Package secret is where passwords come from, and a value that holds one
// without showing it.
//
// # Sources
//
// A password with the base name ENCRYPTION_PASSWORD is looked for in the
// environment under two prefixes, HOLDFAST_ first, then PBS_, and in each in
// four forms, the first that is set wins:
//
//	PBS_ENCRYPTION_PASSWORD       the password itself
//	PBS_ENCRYPTION_PASSWORD_FD    number of an open descriptor to read it from
//	PBS_ENCRYPTION_PASSWORD_FILE  path of a file to read it from
//	PBS_ENCRYPTION_PASSWORD_CMD   a command for /bin/sh whose output it is
//
// From a descriptor, file or command the first line counts, without its line
// end. Without any of them a terminal is asked; without a terminal
// [*MissingError] names the variable to set.
//
// # Source
//
// The variables are those of proxmox-backup-client: pbs-client/src/tools/mod.rs.
package secret

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Secret is a password that no print shows.
type Secret struct{ b []byte }

// New takes over b.
func New(b []byte) Secret { return Secret{b} }

// Reveal returns the bytes, for the one call that needs them.
func (s Secret) Reveal() []byte { return s.b }

// Empty reports whether there is nothing in it.
func (s Secret) Empty() bool { return len(s.b) == 0 }

// Equal compares in constant time.
func (s Secret) Equal(o Secret) bool { return subtle.ConstantTimeCompare(s.b, o.b) == 1 }

// Format implements fmt.Formatter: no verb shows the secret.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

const redacted = "secret(redacted)"

// MissingError says that a password is needed and nothing gives it.
type MissingError struct {
	What string // "password of the encryption key /x/key.json"
	Env  string // the variable that would give it
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("the %s is needed, and there is no terminal to ask for it", e.What)
}
