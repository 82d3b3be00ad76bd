package luks

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"io"
)

const active = 0x00ac71f3

func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

func unlock1(r io.ReaderAt, b, passphrase []byte) (Volume, error) {
	be := binary.BigEndian
	v := Volume{Cipher: text(b[8:40]) + "-" + text(b[40:72]), Offset: int64(be.Uint32(b[104:])) * 512, SectorSize: 512}
	hash, size := text(b[72:104]), int(be.Uint32(b[108:]))
	digest, salt, rounds := b[112:132], b[132:164], int(be.Uint32(b[164:]))
	var err error
	v.Key, err = firstThatOpens(8, func(i int) ([]byte, error) {
		s := b[208+48*i:]
		if be.Uint32(s) != active {
			return nil, ErrPassphrase
		}
		k := slot{
			cipher: v.Cipher, keySize: size, volume: size, hash: hash,
			offset: int64(be.Uint32(s[40:])) * 512, stripes: int(be.Uint32(s[44:])),
			derive: func(p []byte, n int) ([]byte, error) { return stretch(hash, p, s[8:40], int(be.Uint32(s[4:])), n) },
		}
		key, err := k.open(r, passphrase)
		if err != nil {
			return nil, err
		}
		sum, err := stretch(hash, key, salt, rounds, len(digest))
		if err == nil && subtle.ConstantTimeCompare(sum, digest) != 1 {
			err = ErrPassphrase
		}
		return key, err
	})
	return v, err
}
