package ticket

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// ErrKey is wrapped when a file holds no key of a kind that is known.
var ErrKey = errors.New("not a key for tickets")

// Keyring signs tickets and checks them. It is safe for concurrent use, and does
// not show its key when it is printed.
type Keyring struct {
	private crypto.Signer // Ed25519 or RSA
}

// minRSA is the smallest RSA key that is taken, in bits.
const minRSA = 2048

// ParsePrivate reads authkey.key: PEM with an Ed25519 key (PKCS #8) or an RSA key
// (PKCS #1 or #8).
func ParsePrivate(text []byte) (*Keyring, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: no PEM", ErrKey)
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: PEM of type %q", ErrKey, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	switch key := key.(type) {
	case ed25519.PrivateKey:
		return &Keyring{key}, nil
	case *rsa.PrivateKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return nil, fmt.Errorf("%w: RSA with %d bits, at least %d are needed", ErrKey, bits, minRSA)
		}
		return &Keyring{key}, nil
	}
	return nil, fmt.Errorf("%w: a key of type %T", ErrKey, key)
}

// Generate makes an Ed25519 key and returns the texts of authkey.key and
// authkey.pub.
func Generate(rand io.Reader) (private, public []byte, err error) {
	_, key, err := ed25519.GenerateKey(rand)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key for tickets: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key for tickets: %w", err)
	}
	public, err = (&Keyring{key}).Public()
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), public, err
}

// Public returns the text of authkey.pub.
func (k *Keyring) Public() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.private.Public())
	if err != nil {
		return nil, fmt.Errorf("public key for tickets: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

func (k *Keyring) sign(text []byte, rand io.Reader) ([]byte, error) {
	if key, ok := k.private.(ed25519.PrivateKey); ok {
		return ed25519.Sign(key, text), nil
	}
	sum := sha256.Sum256(text)
	return k.private.Sign(rand, sum[:], crypto.SHA256)
}

func (k *Keyring) verify(text, sig []byte) bool {
	switch pub := k.private.Public().(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(pub, text, sig)
	case *rsa.PublicKey:
		sum := sha256.Sum256(text)
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], sig) == nil
	}
	return false
}

const redacted = "ticket.Keyring(redacted)"

// Format implements fmt.Formatter: no verb shows the key.
func (*Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText implements encoding.TextMarshaler.
func (*Keyring) MarshalText() ([]byte, error) { return []byte(redacted), nil }
