// Package passwd turns passwords and secrets of API tokens into hashes that can be
// kept, and checks them against such hashes. They are those of crypt(3), as they
// stand in shadow.json and token.shadow, and in /etc/shadow.
//
// # Kinds
//
//	$y$j9T$<salt>$<hash>            yescrypt; what Hash makes, as PBS does: 32
//	                                bytes of salt, 16 MiB of memory for a moment
//	$6$[rounds=<n>$]<salt>$<hash>   SHA-512
//	$5$[rounds=<n>$]<salt>$<hash>   SHA-256; what PBS made before
//	$2b$<cost>$<salt and hash>      bcrypt; also $2a$ and $2y$
//
// A password is at most 511 bytes without a zero byte: libcrypt takes no more.
//
// # Errors
//
// [ErrMismatch]: another password. [ErrFormat]: no hash of these kinds, so no
// password fits. Both of them mean no.
//
// # Source
//
// crypt(5) of libxcrypt; proxmox-rs: proxmox-sys/src/crypt.rs. The hashes
// themselves are computed by libraries.
package passwd

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/go-crypt/x/crypt"
	"github.com/go-crypt/x/yescrypt"
	"golang.org/x/crypto/bcrypt"

	"github.com/holdfast-backup/holdfast/internal/secret"
)

var (
	// ErrMismatch is returned when a password is not the one.
	ErrMismatch = errors.New("wrong password")
	// ErrFormat is wrapped when a hash is of no kind that is known.
	ErrFormat = errors.New("not a password hash of a known kind")
	// ErrPassword is wrapped when a password cannot be one.
	ErrPassword = errors.New("not a possible password")
)

const (
	current   = "$y$j9T$" // yescrypt with the cost that PBS uses
	saltSize  = 32        // bytes
	maxSize   = 511       // of a password, in bytes
	maxRounds = 10_000_000
	maxBcrypt = 16 // log2 of rounds: some seconds
)

// Hash returns a new hash of a password.
func Hash(password secret.Secret, rand io.Reader) (string, error) {
	if err := check(password); err != nil {
		return "", err
	}
	var salt [saltSize]byte
	if _, err := io.ReadFull(rand, salt[:]); err != nil {
		return "", fmt.Errorf("salt of a password: %w", err)
	}
	h, err := yescrypt.Hash(password.Reveal(), append([]byte(current), yescrypt.Encode64(salt[:])...))
	return string(h), err
}

// Outdated reports whether Hash would make a hash of another kind, so that it is
// time to replace this one when the password is at hand.
func Outdated(hash string) bool { return !strings.HasPrefix(hash, current) }

func check(password secret.Secret) error {
	switch p := password.Reveal(); {
	case len(p) == 0:
		return fmt.Errorf("%w: it is empty", ErrPassword)
	case len(p) > maxSize:
		return fmt.Errorf("%w: it has %d bytes, at most %d are possible", ErrPassword, len(p), maxSize)
	case strings.IndexByte(string(p), 0) >= 0:
		return fmt.Errorf("%w: there is a zero byte in it", ErrPassword)
	}
	return nil
}

// Verify returns nil if a hash is of this password.
func Verify(password secret.Secret, hash string) error {
	if check(password) != nil {
		return ErrMismatch
	}
	var again string
	var err error
	switch {
	case strings.HasPrefix(hash, "$y$"):
		var h []byte
		h, err = yescrypt.Hash(password.Reveal(), []byte(hash))
		again = string(h)
	case strings.HasPrefix(hash, "$6$"):
		again, err = sha(password, hash, sha512.New)
	case strings.HasPrefix(hash, "$5$"):
		again, err = sha(password, hash, sha256.New)
	case strings.HasPrefix(hash, "$2a$"), strings.HasPrefix(hash, "$2b$"), strings.HasPrefix(hash, "$2y$"):
		return verifyBcrypt(password, hash)
	default:
		return ErrFormat
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if subtle.ConstantTimeCompare([]byte(again), []byte(hash)) != 1 {
		return ErrMismatch
	}
	return nil
}

// sha computes the hash of a password with the settings of another of the same
// kind.
func sha(password secret.Secret, setting string, of func() hash.Hash) (string, error) {
	f := strings.Split(setting, "$") // "", kind, [rounds=], salt, hash
	rounds := 5000
	if len(f) == 5 {
		n, ok := strings.CutPrefix(f[2], "rounds=")
		var err error
		if rounds, err = strconv.Atoi(n); !ok || err != nil || rounds < 1000 || rounds > maxRounds {
			return "", fmt.Errorf("%q rounds", f[2])
		}
	}
	if len(f) != 4 && len(f) != 5 {
		return "", errors.New("fields are missing")
	}
	salt := f[len(f)-2]
	if len(salt) > 16 {
		return "", errors.New("the salt is too long")
	}
	sum := crypt.KeySHACrypt(of, password.Reveal(), []byte(salt), rounds)
	return strings.TrimSuffix(setting, f[len(f)-1]) + string(sum), nil
}

func verifyBcrypt(password secret.Secret, hash string) error {
	cost, err := bcrypt.Cost([]byte(hash))
	if err == nil && cost > maxBcrypt {
		err = fmt.Errorf("cost %d", cost)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	switch err := bcrypt.CompareHashAndPassword([]byte(hash), password.Reveal()); {
	case err == nil:
		return nil
	case errors.Is(err, bcrypt.ErrMismatchedHashAndPassword):
		return ErrMismatch
	default:
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
}

// Waste takes as long as Verify does with a hash that Hash made. It is called for
// users that there are not, so that the time tells nobody which ones there are.
func Waste(password secret.Secret) {
	_ = Verify(password, current+strings.Repeat(".", 43)+"$")
}
