package keyfile

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"hash"
	"io"
)

// newIter is the number of PBKDF2 rounds for new private keys, about a tenth
// of a second.
const newIter = 600_000

// Object identifiers of RFC 8018 and NIST.
func oid(n ...int) asn1.ObjectIdentifier { return n }

func oidPBES2() asn1.ObjectIdentifier      { return oid(1, 2, 840, 113549, 1, 5, 13) }
func oidPBKDF2() asn1.ObjectIdentifier     { return oid(1, 2, 840, 113549, 1, 5, 12) }
func oidHMACSHA1() asn1.ObjectIdentifier   { return oid(1, 2, 840, 113549, 2, 7) }
func oidHMACSHA256() asn1.ObjectIdentifier { return oid(1, 2, 840, 113549, 2, 9) }
func oidHMACSHA384() asn1.ObjectIdentifier { return oid(1, 2, 840, 113549, 2, 10) }
func oidHMACSHA512() asn1.ObjectIdentifier { return oid(1, 2, 840, 113549, 2, 11) }
func oidAES128CBC() asn1.ObjectIdentifier  { return oid(2, 16, 840, 1, 101, 3, 4, 1, 2) }
func oidAES192CBC() asn1.ObjectIdentifier  { return oid(2, 16, 840, 1, 101, 3, 4, 1, 22) }
func oidAES256CBC() asn1.ObjectIdentifier  { return oid(2, 16, 840, 1, 101, 3, 4, 1, 42) }

// The structures of EncryptedPrivateKeyInfo (RFC 5208) with PBES2 (RFC 8018).
type (
	encryptedPKCS8 struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	pbes2Params struct {
		KDF, Cipher pkix.AlgorithmIdentifier
	}
	pbkdf2Params struct {
		Salt      []byte
		Iter      int
		KeyLength int                      `asn1:"optional"`
		PRF       pkix.AlgorithmIdentifier `asn1:"optional"`
	}
)

// sealPKCS8 encrypts a PKCS #8 private key.
func sealPKCS8(der, password []byte, rand io.Reader) ([]byte, error) {
	random := make([]byte, 16+aes.BlockSize)
	if _, err := io.ReadFull(rand, random); err != nil {
		return nil, fmt.Errorf("random bytes for a private key: %w", err)
	}
	salt, iv := random[:16], random[16:]
	block, err := pbes2Block(sha256.New, password, salt, newIter, 32)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(der)%aes.BlockSize
	text := append(bytes.Clone(der), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)

	kdf, err := algorithm(oidPBKDF2(), pbkdf2Params{
		Salt: salt, Iter: newIter,
		PRF: pkix.AlgorithmIdentifier{Algorithm: oidHMACSHA256(), Parameters: asn1.NullRawValue},
	})
	if err != nil {
		return nil, err
	}
	aes256, err := algorithm(oidAES256CBC(), iv)
	if err != nil {
		return nil, err
	}
	pbes2, err := algorithm(oidPBES2(), pbes2Params{kdf, aes256})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(encryptedPKCS8{pbes2, text})
}

func algorithm(id asn1.ObjectIdentifier, params any) (pkix.AlgorithmIdentifier, error) {
	b, err := asn1.Marshal(params)
	if err != nil {
		return pkix.AlgorithmIdentifier{}, fmt.Errorf("private key: %w", err)
	}
	return pkix.AlgorithmIdentifier{Algorithm: id, Parameters: asn1.RawValue{FullBytes: b}}, nil
}

// openPKCS8 decrypts a PKCS #8 private key. A wrong password gives ErrPassword,
// or, once in 256 times, bytes that are no key.
func openPKCS8(b, password []byte) ([]byte, error) {
	var outer encryptedPKCS8
	if err := unmarshal(b, &outer); err != nil {
		return nil, err
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2()) {
		return nil, unsupported("encryption", outer.Algorithm.Algorithm)
	}
	var (
		params pbes2Params
		kdf    pbkdf2Params
		iv     []byte
	)
	if err := unmarshal(outer.Algorithm.Parameters.FullBytes, &params); err != nil {
		return nil, err
	}
	if !params.KDF.Algorithm.Equal(oidPBKDF2()) {
		return nil, unsupported("key derivation", params.KDF.Algorithm)
	}
	if err := unmarshal(params.KDF.Parameters.FullBytes, &kdf); err != nil {
		return nil, err
	}
	if kdf.Iter < 1 || kdf.Iter > maxIter {
		return nil, fmt.Errorf("%w: private key: PBKDF2 with %d rounds, want 1 to %d", ErrFormat, kdf.Iter, maxIter)
	}
	prf, err := prfOf(kdf.PRF.Algorithm)
	if err != nil {
		return nil, err
	}
	keyLen, err := aesKeyLength(params.Cipher.Algorithm)
	if err != nil {
		return nil, err
	}
	if kdf.KeyLength != 0 && kdf.KeyLength != keyLen {
		return nil, fmt.Errorf("%w: private key: derived length %d, the cipher takes %d", ErrFormat, kdf.KeyLength, keyLen)
	}
	if err := unmarshal(params.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, err
	}
	if len(iv) != aes.BlockSize || len(outer.Data) == 0 || len(outer.Data)%aes.BlockSize != 0 {
		return nil, fmt.Errorf("%w: private key: IV of %d and text of %d bytes", ErrFormat, len(iv), len(outer.Data))
	}
	block, err := pbes2Block(prf, password, kdf.Salt, kdf.Iter, keyLen)
	if err != nil {
		return nil, err
	}
	text := bytes.Clone(outer.Data)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(text, text)
	plain, ok := unpad(text)
	if !ok {
		return nil, fmt.Errorf("%w: private master key", ErrPassword)
	}
	return plain, nil
}

func prfOf(id asn1.ObjectIdentifier) (func() hash.Hash, error) {
	switch {
	case id == nil, id.Equal(oidHMACSHA1()): // the default of the structure
		return sha1.New, nil
	case id.Equal(oidHMACSHA256()):
		return sha256.New, nil
	case id.Equal(oidHMACSHA384()):
		return sha512.New384, nil
	case id.Equal(oidHMACSHA512()):
		return sha512.New, nil
	}
	return nil, unsupported("PRF", id)
}

func aesKeyLength(id asn1.ObjectIdentifier) (int, error) {
	switch {
	case id.Equal(oidAES128CBC()):
		return 16, nil
	case id.Equal(oidAES192CBC()):
		return 24, nil
	case id.Equal(oidAES256CBC()):
		return 32, nil
	}
	return 0, unsupported("cipher", id)
}

func pbes2Block(prf func() hash.Hash, password, salt []byte, iter, keyLen int) (cipher.Block, error) {
	raw, err := pbkdf2.Key(prf, string(password), salt, iter, keyLen)
	if err != nil {
		return nil, fmt.Errorf("%w: private key: %w", ErrFormat, err)
	}
	defer clear(raw)
	return aes.NewCipher(raw)
}

func unpad(b []byte) ([]byte, bool) {
	n := int(b[len(b)-1])
	if n < 1 || n > aes.BlockSize || n > len(b) {
		return nil, false
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, false
		}
	}
	return b[:len(b)-n], true
}

func unmarshal(b []byte, v any) error {
	rest, err := asn1.Unmarshal(b, v)
	if err != nil {
		return fmt.Errorf("%w: private key: %w", ErrFormat, err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: private key: %d bytes behind it", ErrFormat, len(rest))
	}
	return nil
}

func unsupported(what string, id asn1.ObjectIdentifier) error {
	return fmt.Errorf("%w: private key: %s %v is not supported; convert it with openssl pkcs8 -topk8 -v2 aes-256-cbc", ErrFormat, what, id)
}
