// Package keyfile reads and writes the files that hold an encryption key, and
// the RSA master keys that an encryption key can be recovered with.
//
// # Key file
//
// Compact JSON with these fields, in this order; readers accept any:
//
//	kdf          null, {"Scrypt":{"n","r","p","salt"}} or {"PBKDF2":{"iter","salt"}}
//	created      RFC 3339 with offset, kept when the password changes
//	modified     the same form
//	data         base64: without kdf the 32 bytes of the key; with kdf
//	             IV (16) || tag (16) || ciphertext (32)
//	fingerprint  optional, of the key; must match it
//	hint         optional, a hint to the password
//
// Salts are base64. The password goes through the KDF to 32 bytes; these
// encrypt the key with AES-256-GCM, 16-byte IV, no additional data. New files
// use a salt of 32 bytes and N 65536, r 8, p 1, or 65535 rounds of
// HMAC-SHA256. The parameters come from the file, within ceilings: a key file
// may be hostile. scrypt may take 1025 MiB by the estimate 128*N*r*p, PBKDF2
// ten million rounds; both are a few seconds of one core.
//
// Passwords have at least 5 bytes; shorter ones are refused before the KDF
// runs. Unknown fields are ignored.
//
// # Master key
//
// An RSA key pair. Per backup, the key file without kdf is encrypted with the
// public key (PKCS #1 v1.5) and stored as blob rsa-encrypted.key.blob, plain
// and not compressed. Its JSON has about 255 bytes, so the modulus needs at
// least 3072 bits. New pairs have 4096. The private key is a PEM file with
// PKCS #8 under a password: PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC. What
// openssl writes is read too: PRFs SHA-1 to SHA-512, AES of any size in CBC
// mode, and files without password ("PRIVATE KEY", "RSA PRIVATE KEY").
//
// # Errors
//
// [ErrFormat] is wrapped for files that are none, [ErrNeedPassword] when a
// password is needed, [ErrPassword] when it is wrong or too short, and
// [ErrFingerprint] when a file holds another key than it says.
//
// # Source
//
// proxmox-backup: pbs-key-config/src/lib.rs, proxmox-backup-client/src/key.rs;
// RFC 5208, RFC 8018.
package keyfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

// Errors that callers tell apart.
var (
	ErrFormat       = errors.New("invalid key file")
	ErrNeedPassword = errors.New("the key is protected by a password")
	ErrPassword     = errors.New("wrong password")
	ErrFingerprint  = errors.New("key does not match the fingerprint beside it")
)

// Limits.
const (
	MaxSize     = 64 << 10 // of a key file or PEM file that is read, in bytes
	MinPassword = 5        // bytes
	MaxHint     = 64       // characters
)

// sealedSize is the length of data under a password: IV, tag, ciphertext.
const sealedSize = chunkcrypt.IVSize + chunkcrypt.TagSize + chunkcrypt.KeySize

// File is a parsed key file. It may hold an unprotected key and is redacted in
// all prints.
type File struct {
	Created     time.Time
	Modified    time.Time
	Fingerprint chunkcrypt.Fingerprint // zero when the file has none
	Hint        string

	kdf   kdf
	named bool   // the file has a fingerprint
	data  []byte // 32 bytes without KDF, else sealedSize
}

// KDF returns how the password becomes a key; KDFNone means that none is
// needed.
func (f *File) KDF() KDF { return f.kdf.name }

// Unlock returns the key and when it was created. password is not looked at
// when the file needs none. A nil password is none at all and gives
// ErrNeedPassword.
func (f *File) Unlock(password []byte) (*chunkcrypt.Key, time.Time, error) {
	raw, err := f.open(password)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer clear(raw)
	k, err := chunkcrypt.New([chunkcrypt.KeySize]byte(raw))
	if err != nil {
		return nil, time.Time{}, err
	}
	if f.named && f.Fingerprint != k.Fingerprint() {
		return nil, time.Time{}, fmt.Errorf("%w: stored %s, computed %s", ErrFingerprint, f.Fingerprint.Short(), k.Fingerprint().Short())
	}
	return k, f.Created, nil
}

func (f *File) open(password []byte) ([]byte, error) {
	if f.kdf.name == KDFNone {
		return append([]byte(nil), f.data...), nil
	}
	if password == nil {
		return nil, f.hinted(ErrNeedPassword)
	}
	if len(password) < MinPassword {
		return nil, fmt.Errorf("%w: it has fewer than %d bytes", f.hinted(ErrPassword), MinPassword)
	}
	wrap, err := f.kdf.derive(password)
	if err != nil {
		return nil, err
	}
	iv, tag, text := f.data[:chunkcrypt.IVSize], f.data[chunkcrypt.IVSize:][:chunkcrypt.TagSize], f.data[chunkcrypt.IVSize+chunkcrypt.TagSize:]
	raw, err := wrap.Open(make([]byte, 0, chunkcrypt.KeySize), iv, tag, text)
	if errors.Is(err, chunkcrypt.ErrAuth) {
		return nil, f.hinted(ErrPassword)
	}
	return raw, err
}

// hinted adds the hint to an error. It comes from the file and may hold
// anything, so it is quoted and cut.
func (f *File) hinted(err error) error {
	if f.Hint == "" {
		return err
	}
	return fmt.Errorf("%w (hint: %.*q)", err, MaxHint, f.Hint)
}

// Create returns a new key file for k. hint may be empty and must be so
// together with KDFNone; so must password. The zone of now is the one written.
func Create(k *chunkcrypt.Key, name KDF, password []byte, hint string, now time.Time, rand io.Reader) ([]byte, error) {
	f, err := seal(k, name, password, hint, now, now, rand)
	if err != nil {
		return nil, err
	}
	return f.Marshal()
}

// Change returns the key file with another password, KDF or hint. The time of
// creation stays.
func (f *File) Change(old []byte, name KDF, password []byte, hint string, now time.Time, rand io.Reader) ([]byte, error) {
	k, created, err := f.Unlock(old)
	if err != nil {
		return nil, err
	}
	return Store(k, created, name, password, hint, now, rand)
}

// Store is Create for a key that exists since created, such as one that was
// recovered with a master key.
func Store(k *chunkcrypt.Key, created time.Time, name KDF, password []byte, hint string, now time.Time, rand io.Reader) ([]byte, error) {
	f, err := seal(k, name, password, hint, created, now, rand)
	if err != nil {
		return nil, err
	}
	return f.Marshal()
}

func seal(k *chunkcrypt.Key, name KDF, password []byte, hint string, created, now time.Time, rand io.Reader) (*File, error) {
	if err := CheckHint(hint); err != nil {
		return nil, err
	}
	raw := k.Reveal()
	defer clear(raw[:])
	f := &File{Created: created, Modified: now, Fingerprint: k.Fingerprint(), Hint: hint, named: true}
	if name == KDFNone {
		if hint != "" || len(password) > 0 {
			return nil, errors.New("a key file without kdf takes neither a password nor a hint; use kdf scrypt")
		}
		f.kdf.name = KDFNone
		f.data = append(f.data, raw[:]...)
		return f, nil
	}
	if len(password) < MinPassword {
		return nil, fmt.Errorf("the password has fewer than %d bytes; choose a longer one", MinPassword)
	}
	var err error
	if f.kdf, err = newKDF(name, rand); err != nil {
		return nil, err
	}
	wrap, err := f.kdf.derive(password)
	if err != nil {
		return nil, err
	}
	iv := make([]byte, chunkcrypt.IVSize)
	if _, err := io.ReadFull(rand, iv); err != nil {
		return nil, fmt.Errorf("random bytes for a key file: %w", err)
	}
	text, tag := wrap.Seal(nil, iv, raw[:])
	f.data = append(append(append(make([]byte, 0, sealedSize), iv...), tag[:]...), text...)
	return f, nil
}

// CheckHint reports whether s may become a password hint.
func CheckHint(s string) error {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > MaxHint || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("invalid password hint %.100q: want at most %d characters without control characters", s, MaxHint)
	}
	return nil
}

// Format implements fmt.Formatter: no verb shows what is inside.
func (File) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "keyfile.File(redacted)") }

var b64 = base64.StdEncoding.Strict()
