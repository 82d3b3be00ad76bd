package keyfile

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

// masterBits is the size of new master keys.
const masterBits = 4096

// PEM block types.
const (
	pemPublic    = "PUBLIC KEY"
	pemPrivate   = "PRIVATE KEY"
	pemRSA       = "RSA PRIVATE KEY"
	pemEncrypted = "ENCRYPTED PRIVATE KEY"
)

// EncryptToMaster returns the content of the blob rsa-encrypted.key.blob: the
// key file of k without kdf, encrypted for the owner of the master key. The
// blob around it must be plain and not compressed.
func EncryptToMaster(pub *rsa.PublicKey, k *chunkcrypt.Key, created time.Time) ([]byte, error) {
	f, err := seal(k, KDFNone, nil, "", created, created, nil)
	if err != nil {
		return nil, err
	}
	text, err := f.Marshal()
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if room := pub.Size() - 11; len(text) > room {
		return nil, fmt.Errorf("the master key of %d bits has room for %d bytes, the key file needs %d; use a master key of 3072 or 4096 bits", pub.N.BitLen(), room, len(text))
	}
	//lint:ignore SA1019 the format demands this padding; nothing answers an attacker's queries here
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, text)
	if err != nil {
		return nil, fmt.Errorf("encrypt with the master key: %w", err)
	}
	return sealed, nil
}

// DecryptWithMaster recovers a key from the content of the blob
// rsa-encrypted.key.blob. Another master key gives ErrFormat: the padding
// cannot tell it from changed data.
func DecryptWithMaster(priv *rsa.PrivateKey, content []byte) (*chunkcrypt.Key, time.Time, error) {
	//lint:ignore SA1019 the format demands this padding; this runs at the owner's desk, not as a service
	text, err := rsa.DecryptPKCS1v15(nil, priv, content)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("%w: it was encrypted for another master key, or is damaged: %w", ErrFormat, err)
	}
	defer clear(text)
	f, err := Parse(text)
	if err != nil {
		return nil, time.Time{}, err
	}
	return f.Unlock(nil)
}

// GenerateMaster makes a new pair and returns it as PEM files: the private key
// under the password, and the public key.
func GenerateMaster(password []byte) (private, public []byte, err error) {
	if len(password) < MinPassword {
		return nil, nil, fmt.Errorf("the password has fewer than %d bytes; choose a longer one", MinPassword)
	}
	priv, err := rsa.GenerateKey(rand.Reader, masterBits)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a master key: %w", err)
	}
	if private, err = MarshalPrivatePEM(priv, password); err != nil {
		return nil, nil, err
	}
	public, err = MarshalPublicPEM(&priv.PublicKey)
	return private, public, err
}

// MarshalPrivatePEM returns the private key under a password.
func MarshalPrivatePEM(priv *rsa.PrivateKey, password []byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	defer clear(der)
	sealed, err := sealPKCS8(der, password, rand.Reader)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: sealed}), nil
}

// MarshalPublicPEM returns the public key as SubjectPublicKeyInfo.
func MarshalPublicPEM(pub *rsa.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("master key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der}), nil
}

// ParsePublicPEM reads a public master key.
func ParsePublicPEM(text []byte) (*rsa.PublicKey, error) {
	block, err := onePEM(text)
	if err != nil {
		return nil, err
	}
	if block.Type != pemPublic {
		return nil, fmt.Errorf("%w: PEM block %.40q, want %q", ErrFormat, block.Type, pemPublic)
	}
	v, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: public master key: %w", ErrFormat, err)
	}
	pub, ok := v.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: public master key is not RSA", ErrFormat)
	}
	return pub, checkSize(pub)
}

// ParsePrivatePEM reads a private master key. password is not looked at when
// the file needs none; nil gives ErrNeedPassword when it does.
func ParsePrivatePEM(text, password []byte) (*rsa.PrivateKey, error) {
	block, err := onePEM(text)
	if err != nil {
		return nil, err
	}
	if block.Headers["DEK-Info"] != "" {
		return nil, fmt.Errorf("%w: the private key uses the old encryption of PEM; convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc", ErrFormat)
	}
	var priv *rsa.PrivateKey
	switch block.Type {
	case pemEncrypted:
		if password == nil {
			return nil, fmt.Errorf("%w: private master key", ErrNeedPassword)
		}
		der, err := openPKCS8(block.Bytes, password)
		if err != nil {
			return nil, err
		}
		defer clear(der)
		// The padding of a wrong password is right once in 256 times.
		if priv, err = parsePKCS8(der); err != nil {
			return nil, fmt.Errorf("%w: private master key", ErrPassword)
		}
	case pemPrivate:
		if priv, err = parsePKCS8(block.Bytes); err != nil {
			return nil, err
		}
	case pemRSA:
		if priv, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, fmt.Errorf("%w: private master key: %w", ErrFormat, err)
		}
	default:
		return nil, fmt.Errorf("%w: PEM block %.40q, want %q, %q or %q", ErrFormat, block.Type, pemEncrypted, pemPrivate, pemRSA)
	}
	return priv, checkSize(&priv.PublicKey)
}

func onePEM(text []byte) (*pem.Block, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrFormat, len(text), MaxSize)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: no PEM block", ErrFormat)
	}
	return block, nil
}

func parsePKCS8(der []byte) (*rsa.PrivateKey, error) {
	v, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: private master key: %w", ErrFormat, err)
	}
	priv, ok := v.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: private master key is not RSA", ErrFormat)
	}
	return priv, nil
}

// checkSize bounds the work of one operation.
func checkSize(pub *rsa.PublicKey) error {
	const least, most = 2048, 16384
	if n := pub.N.BitLen(); n < least || n > most {
		return fmt.Errorf("%w: master key of %d bits, want %d to %d", ErrFormat, n, least, most)
	}
	return nil
}
