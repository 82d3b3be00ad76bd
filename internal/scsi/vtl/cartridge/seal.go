package cartridge

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

const (
	nonceSize    = 12
	sealOverhead = nonceSize + 16
)

// Key is what the drive encrypts and decrypts with. It does not print itself.
type Key struct {
	check [3]byte
	aead  cipher.AEAD
}

// NewKey makes a key of its bytes.
func NewKey(k [32]byte) *Key {
	block, err := aes.NewCipher(k[:])
	if err != nil {
		panic("cartridge: " + err.Error()) // 32 bytes are a key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("cartridge: " + err.Error())
	}
	sum := sha256.Sum256(k[:])
	return &Key{check: [3]byte(sum[:]), aead: aead}
}

func (*Key) String() string   { return "cartridge.Key(redacted)" }
func (*Key) GoString() string { return "cartridge.Key(redacted)" }

func (k *Key) seal(dst []byte, number uint64, block []byte) []byte {
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	return k.aead.Seal(append(dst, nonce...), nonce, block, binary.BigEndian.AppendUint64(nil, number))
}

// open decrypts in place.
func (k *Key) open(number uint64, stored []byte) ([]byte, error) {
	nonce, ct := stored[:nonceSize], stored[nonceSize:]
	b, err := k.aead.Open(ct[:0], nonce, ct, binary.BigEndian.AppendUint64(nil, number))
	if err != nil {
		return nil, ErrKey
	}
	return b, nil
}

// Fits reports whether an encrypted object seems to be of this key.
func (k *Key) Fits(o Object) bool { return k != nil && o.check == k.check }
