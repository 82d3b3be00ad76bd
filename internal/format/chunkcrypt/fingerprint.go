package chunkcrypt

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Fingerprint names a key in public: in manifests, key files and messages.
//
// Its text form is 32 lower-case hex pairs joined by colons. [ParseFingerprint]
// drops all colons, as the existing tools do, and needs 64 hex digits.
type Fingerprint [32]byte

// fingerprintInput is hashed in front of the id-key, hashed itself.
const fingerprintInput = "Proxmox Backup Encryption Key Fingerprint"

func fingerprint(id [32]byte) Fingerprint {
	f := sha256.Sum256([]byte(fingerprintInput))
	return sha256.Sum256(append(f[:], id[:]...))
}

// ParseFingerprint reads the text form.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	digits := strings.ReplaceAll(s, ":", "")
	if len(digits) != 2*len(f) {
		return Fingerprint{}, fmt.Errorf("key fingerprint: want %d hex digits, got %d", 2*len(f), len(digits))
	}
	if _, err := hex.Decode(f[:], []byte(digits)); err != nil {
		return Fingerprint{}, fmt.Errorf("key fingerprint: %w", err)
	}
	return f, nil
}

// String returns the text form, 95 characters.
func (f Fingerprint) String() string { return colons(f[:]) }

// Short returns the first eight bytes in text form, enough for people.
func (f Fingerprint) Short() string { return colons(f[:8]) }

// IsZero reports whether f is the zero value, which names no key.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// MarshalText implements encoding.TextMarshaler.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (f *Fingerprint) UnmarshalText(b []byte) error {
	v, err := ParseFingerprint(string(b))
	if err != nil {
		return err
	}
	*f = v
	return nil
}

func colons(b []byte) string {
	out := make([]byte, 0, 3*len(b))
	for i := range b {
		if i > 0 {
			out = append(out, ':')
		}
		out = hex.AppendEncode(out, b[i:i+1])
	}
	return string(out)
}
