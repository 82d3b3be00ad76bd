// Package digest is the 32-byte name of a chunk, and of anything else that
// the formats identify by SHA-256.
//
// The text form is 64 lower-case hex digits; Parse and String are inverses.
// What goes into the hash is the business of the callers: plain chunk bytes,
// or plain bytes followed by the id-key of an encryption key
// (internal/format/chunkcrypt).
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Size is the length of a digest in bytes.
const Size = 32

// Digest names a chunk.
type Digest [Size]byte

// Of returns the SHA-256 of b.
func Of(b []byte) Digest { return sha256.Sum256(b) }

// Parse reads the 64 hex digits that String prints.
func Parse(s string) (Digest, error) {
	var d Digest
	if len(s) != 2*Size {
		return Digest{}, fmt.Errorf("digest: want %d hex digits, got %d", 2*Size, len(s))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return Digest{}, fmt.Errorf("digest: %w", err)
	}
	return d, nil
}

// String returns 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// AppendHex appends the 64 hex digits to b.
func (d Digest) AppendHex(b []byte) []byte { return hex.AppendEncode(b, d[:]) }

// IsZero reports whether d is the zero value, which names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return d.AppendHex(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	v, err := Parse(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}
