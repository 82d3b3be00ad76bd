package address

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Fingerprint is the SHA-256 of a certificate in DER.
type Fingerprint [sha256.Size]byte

// FingerprintOf computes the fingerprint of a certificate in DER.
func FingerprintOf(der []byte) Fingerprint { return sha256.Sum256(der) }

// ParseFingerprint reads the text form.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	digits := strings.ReplaceAll(s, ":", "")
	if len(digits) != 2*len(f) || len(s) != len(digits) && len(s) != 3*len(f)-1 {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: %w: want 32 hex pairs joined by colons", s, ErrFormat)
	}
	for i := 2; i < len(s) && len(s) != len(digits); i += 3 {
		if s[i] != ':' {
			return Fingerprint{}, fmt.Errorf("fingerprint %q: %w: want 32 hex pairs joined by colons", s, ErrFormat)
		}
	}
	if _, err := hex.Decode(f[:], []byte(digits)); err != nil {
		return Fingerprint{}, fmt.Errorf("fingerprint %q: %w: %w", s, ErrFormat, err)
	}
	return f, nil
}

// String returns the text form, 95 characters.
func (f Fingerprint) String() string {
	b := make([]byte, 0, 3*len(f))
	for _, c := range f {
		b = append(hex.AppendEncode(b, []byte{c}), ':')
	}
	return string(b[:len(b)-1])
}

// IsZero reports the zero value, which is the fingerprint of nothing.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }
