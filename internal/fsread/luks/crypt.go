package luks

import (
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // the format's
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"hash"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

func hashNamed(name string) (func() hash.Hash, error) {
	switch name {
	case "sha1":
		return sha1.New, nil
	case "sha256":
		return sha256.New, nil
	case "sha512":
		return sha512.New, nil
	}
	return nil, fsread.Unsupported(layer, "hash %q", name)
}

func stretch(name string, passphrase, salt []byte, rounds, size int) ([]byte, error) {
	h, err := hashNamed(name)
	if err != nil {
		return nil, err
	}
	if rounds <= 0 || rounds > maxRounds || size <= 0 || size > maxKey {
		return nil, fsread.Corrupt(layer, "%d rounds for %d bytes", rounds, size)
	}
	return pbkdf2.Key(h, string(passphrase), salt, rounds, size)
}

// decrypt decrypts sectors of 512 bytes in place, numbered from 0.
func decrypt(name string, key, b []byte) error {
	sector, err := newSectors(name, key)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 512 {
		sector(uint64(i/512), b[i:i+512])
	}
	return nil
}

// merge puts a key together from its stripes.
func merge(stripes []byte, size int, name string) ([]byte, error) {
	h, err := hashNamed(name)
	if err != nil {
		return nil, err
	}
	d := make([]byte, size)
	for len(stripes) > size {
		subtle.XORBytes(d, d, stripes)
		diffuse(d, h)
		stripes = stripes[size:]
	}
	subtle.XORBytes(d, d, stripes)
	return d, nil
}

// diffuse replaces each piece of the length of a digest by the digest of its number
// and itself.
func diffuse(d []byte, h func() hash.Hash) {
	n := h().Size()
	for i := 0; i*n < len(d); i++ {
		piece := d[i*n : min(len(d), (i+1)*n)]
		s := h()
		_ = binary.Write(s, binary.BigEndian, uint32(i)) // a hash does not fail
		s.Write(piece)
		copy(piece, s.Sum(nil))
	}
}
