// Package chunkcrypt is the cryptography around one encryption key: the names
// of encrypted chunks, the fingerprint of the key, the signature of manifests,
// and sealing and opening chunk data.
//
// # From one key
//
// The key is 32 random bytes. Everything else follows from it:
//
//	id-key       PBKDF2-HMAC-SHA256(password = the raw key, salt = "_id_key", 10 rounds), 32 bytes
//	digest       SHA-256(plain data || id-key), the name of an encrypted chunk; the id-key comes last
//	tag          HMAC-SHA256(key = id-key, message), the signature of a manifest
//	fingerprint  SHA-256(F || id-key), F = SHA-256("Proxmox Backup Encryption Key Fingerprint")
//	ciphertext   AES-256-GCM(the raw key), 16-byte IV, no additional data, 16-byte tag
//
// The digest depends on neither IV nor compression, and two keys never share
// a digest. The IV has 16 bytes and not the usual 12, so GCM derives its first
// counter block with GHASH; it must be random and never repeat for a key.
//
// # Errors
//
// [Key.Open] returns [ErrAuth] when tag, IV, ciphertext and key do not belong
// together; it cannot tell a wrong key from damage. No plain data leaves it
// before the tag has been checked.
//
// # Source
//
// proxmox-backup: pbs-tools/src/crypt_config.rs, pbs-key-config/src/lib.rs.
package chunkcrypt

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Sizes in bytes.
const (
	KeySize = 32
	IVSize  = 16
	TagSize = 16
)

// The id-key is derived from a uniformly random key, so ten rounds are a
// convention and not a weakness.
const (
	idSalt   = "_id_key"
	idRounds = 10
)

// ErrAuth is returned when data was not sealed with this key and IV, or has
// been changed since.
var ErrAuth = errors.New("authentication failed: wrong encryption key or changed data")

// Key is an encryption key with everything derived from it. It is immutable
// and safe for concurrent use. Printing it in any way shows no secret.
type Key struct {
	raw   [KeySize]byte
	id    [32]byte
	print Fingerprint
	aead  cipher.AEAD
}

// New derives what follows from the raw key. It fails only where the platform
// forbids 16-byte IVs (FIPS 140-only mode).
func New(raw [KeySize]byte) (*Key, error) {
	id, err := pbkdf2.Key(sha256.New, string(raw[:]), []byte(idSalt), idRounds, 32)
	if err != nil {
		return nil, fmt.Errorf("derive id-key: %w", err)
	}
	block, err := aes.NewCipher(raw[:])
	if err != nil {
		return nil, fmt.Errorf("chunk cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithNonceSize(block, IVSize)
	if err != nil {
		return nil, fmt.Errorf("chunk cipher: %w", err)
	}
	k := &Key{raw: raw, id: [32]byte(id), aead: aead}
	k.print = fingerprint(k.id)
	return k, nil
}

// Reveal returns the raw key, for writing it into a key file.
func (k *Key) Reveal() [KeySize]byte { return k.raw }

// Equal compares two keys in constant time.
func (k *Key) Equal(o *Key) bool { return subtle.ConstantTimeCompare(k.raw[:], o.raw[:]) == 1 }

// Fingerprint returns the public name of the key.
func (k *Key) Fingerprint() Fingerprint { return k.print }

// Digest returns the name of an encrypted chunk with the given plain data.
func (k *Key) Digest(plain []byte) digest.Digest {
	var d digest.Digest
	h := sha256.New()
	h.Write(plain)
	h.Write(k.id[:])
	h.Sum(d[:0])
	return d
}

// Digest2 returns the names of two encrypted chunks, in less time than two
// calls of Digest: see [digest.Of2].
func (k *Key) Digest2(a, b []byte) (digest.Digest, digest.Digest) {
	return digest.Of2Suffix(a, b, k.id[:])
}

// Sign returns the authentication tag of a message. Compare tags with
// [crypto/hmac.Equal].
func (k *Key) Sign(msg []byte) [32]byte {
	var tag [32]byte
	h := hmac.New(sha256.New, k.id[:])
	h.Write(msg)
	h.Sum(tag[:0])
	return tag
}

// Seal encrypts plain and appends the ciphertext, as long as plain, to dst. It
// allocates nothing if dst has room for len(plain)+[TagSize] more bytes, and
// may overwrite that room. plain and that room must not overlap, except that
// plain may start exactly at it. The IV must have 16 bytes and be unique.
func (k *Key) Seal(dst, iv, plain []byte) (ciphertext []byte, tag [TagSize]byte) {
	out := k.aead.Seal(dst, iv, plain, nil)
	end := len(out) - TagSize
	copy(tag[:], out[end:])
	return out[:end], tag
}

// Open appends the plain data of a ciphertext to dst, or returns [ErrAuth] and
// releases nothing. It allocates nothing if dst has room for
// len(ciphertext)+[TagSize] more bytes, and may overwrite that room, which must
// not overlap the ciphertext, except that the ciphertext may start exactly at
// it; then it is gone, after an error too.
func (k *Key) Open(dst, iv, tag, ciphertext []byte) ([]byte, error) {
	if len(iv) != IVSize || len(tag) != TagSize {
		return nil, fmt.Errorf("%w: IV of %d and tag of %d bytes", ErrAuth, len(iv), len(tag))
	}
	// The library wants the tag behind the ciphertext, the format has it in
	// front: join them where the plain data will be, then decrypt in place.
	buf := slices.Grow(dst, len(ciphertext)+TagSize)
	buf = append(append(buf, ciphertext...), tag...)
	out, err := k.aead.Open(buf[:len(dst)], iv, buf[len(dst):], nil)
	if err != nil {
		return nil, ErrAuth
	}
	return out, nil
}

const redacted = "chunkcrypt.Key(redacted)"

// Format implements fmt.Formatter: no verb shows the key.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// String implements fmt.Stringer.
func (Key) String() string { return redacted }

// MarshalText implements encoding.TextMarshaler, which JSON and structured
// logs use.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
