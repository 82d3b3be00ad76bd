package manifest

import (
	"crypto/hmac"
	"encoding/hex"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/canonjson"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

// Signed reports whether there is a signature. Verify checks it.
func (m *Manifest) Signed() bool { return m.Signature != "" }

// Canonical returns the bytes that a signature covers. A manifest with unknown
// fields that have no canonical form (null, floats) returns an error wrapping
// ErrFormat.
func (m *Manifest) Canonical() ([]byte, error) {
	b, err := canonjson.AppendCanonical(nil, m.object())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return b, nil
}

// Sign signs the manifest and stores the fingerprint of k in its unprotected
// part. Unknown fields outside that part are dropped, because servers disagree
// on whether a signature covers them.
func (m *Manifest) Sign(k *chunkcrypt.Key) error {
	if err := m.check(); err != nil {
		return err
	}
	object := m.build()
	b, err := canonjson.AppendCanonical(nil, object)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	tag := k.Sign(b)
	m.Signature = hex.EncodeToString(tag[:])
	m.remember(object)
	m.setKeyFingerprint(k.Fingerprint())
	return nil
}

// Verify checks the signature with k. An unsigned manifest passes. Otherwise
// the stored fingerprint, if there is one, must be that of k (ErrWrongKey) and
// the signature must match (ErrSignature). A manifest whose fields were changed
// after Parse or Sign has a wrong signature.
func (m *Manifest) Verify(k *chunkcrypt.Key) error {
	if m.Signature == "" {
		return nil
	}
	stored, err := m.KeyFingerprint()
	if err != nil {
		return err
	}
	if !stored.IsZero() && stored != k.Fingerprint() {
		return fmt.Errorf("%w: it has fingerprint %s, the given key %s", ErrWrongKey, stored.Short(), k.Fingerprint().Short())
	}
	if m.changed() {
		return fmt.Errorf("%w: it was changed after it was signed", ErrSignature)
	}
	b, err := m.Canonical()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	got, err := hex.DecodeString(m.Signature)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if want := k.Sign(b); !hmac.Equal(got, want[:]) {
		return ErrSignature
	}
	return nil
}
