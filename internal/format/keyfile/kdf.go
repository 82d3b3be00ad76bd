package keyfile

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"fmt"
	"io"

	"golang.org/x/crypto/scrypt"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

// KDF names how a password becomes a key.
type KDF string

// The KDFs, by the names of the API.
const (
	KDFNone   KDF = "none"
	KDFScrypt KDF = "scrypt" // the default for new files
	KDFPBKDF2 KDF = "pbkdf2"
)

// ParseKDF reads "none", "scrypt" or "pbkdf2".
func ParseKDF(s string) (KDF, error) {
	switch k := KDF(s); k {
	case KDFNone, KDFScrypt, KDFPBKDF2:
		return k, nil
	}
	return "", fmt.Errorf("unknown kdf %.40q: want none, scrypt or pbkdf2", s)
}

// Parameters of new files.
const (
	saltSize     = 32
	defaultN     = 65536
	defaultR     = 8
	defaultP     = 1
	defaultIter  = 65535
	maxScryptMem = 1025 << 20 // bytes, for 128*N*r*p
	maxIter      = 10_000_000
)

// kdf is a KDF with its parameters; those of other KDFs are zero.
type kdf struct {
	name    KDF
	n, r, p uint64
	iter    uint64
	salt    []byte
}

func newKDF(name KDF, rand io.Reader) (kdf, error) {
	k := kdf{name: name, salt: make([]byte, saltSize)}
	switch name {
	case KDFScrypt:
		k.n, k.r, k.p = defaultN, defaultR, defaultP
	case KDFPBKDF2:
		k.iter = defaultIter
	default:
		return kdf{}, fmt.Errorf("unknown kdf %.40q: want none, scrypt or pbkdf2", string(name))
	}
	if _, err := io.ReadFull(rand, k.salt); err != nil {
		return kdf{}, fmt.Errorf("random bytes for a key file: %w", err)
	}
	return k, nil
}

// check refuses parameters that are no parameters or would hang the reader.
func (k kdf) check() error {
	switch k.name {
	case KDFScrypt:
		const most = 1 << 30 // so that products of two fit
		if k.n < 2 || k.n > most || k.n&(k.n-1) != 0 || k.r < 1 || k.r > most || k.p < 1 || k.p > most {
			return fmt.Errorf("%w: scrypt parameters n=%d r=%d p=%d", ErrFormat, k.n, k.r, k.p)
		}
		if k.n*k.r > maxScryptMem/128 || k.n*k.r*k.p > maxScryptMem/128 {
			return fmt.Errorf("%w: scrypt parameters n=%d r=%d p=%d would take more than %d MiB", ErrFormat, k.n, k.r, k.p, maxScryptMem>>20)
		}
	case KDFPBKDF2:
		if k.iter < 1 || k.iter > maxIter {
			return fmt.Errorf("%w: PBKDF2 with %d rounds, want 1 to %d", ErrFormat, k.iter, maxIter)
		}
	}
	return nil
}

// derive returns the key that encrypts the key.
func (k kdf) derive(password []byte) (*chunkcrypt.Key, error) {
	var (
		raw []byte
		err error
	)
	if k.name == KDFScrypt {
		raw, err = scrypt.Key(password, k.salt, int(k.n), int(k.r), int(k.p), chunkcrypt.KeySize)
	} else {
		raw, err = pbkdf2.Key(sha256.New, string(password), k.salt, int(k.iter), chunkcrypt.KeySize)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	defer clear(raw)
	return chunkcrypt.New([chunkcrypt.KeySize]byte(raw))
}
