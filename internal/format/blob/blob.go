// Package blob reads and writes data blobs: the files of the chunk store, and
// the files of a snapshot that end in ".blob". Both have the same encoding.
//
// # Layout
//
//	offset  size  field
//	0       8     magic, says which of four kinds
//	8       4     CRC-32 (IEEE) of the payload, little-endian
//	12      16    IV       encrypted kinds only
//	28      16    GCM tag  encrypted kinds only
//	12|44   n     payload, up to the end of the file
//
//	kind            magic                    payload
//	plain           42 ab 38 07 be 83 70 a1  the data
//	zstd            31 b9 58 42 6f b6 a3 7f  zstd frames of the data
//	encrypted       7b 67 85 be 22 2d 4c f0  ciphertext of the data
//	encrypted zstd  e6 59 1b bf 0b bf d8 0b  ciphertext of the zstd frames
//
// The CRC covers the payload alone, for encrypted kinds the ciphertext, so
// that whoever has no key can check it. Encryption is that of package
// chunkcrypt. Nothing in a blob says how long the data is, and nothing says
// which chunk it is: the caller compares the digest.
//
// # Limits
//
// A blob holds up to [MaxPlain] bytes of data, a chunk up to [MaxChunk]. The
// decoder takes the limit from its caller and never believes the blob.
//
// # Errors
//
// Bytes that are no sound blob give an error wrapping [ErrFormat]. When the
// GCM tag does not fit it also wraps [chunkcrypt.ErrAuth], because a wrong key
// looks the same. [ErrNoKey] is not damage: the blob is encrypted and the
// decoder has no key.
//
// # Source
//
// proxmox-backup: pbs-datastore/src/data_blob.rs, file_formats.rs.
package blob

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Sizes in bytes.
const (
	HeaderSize          = 12
	EncryptedHeaderSize = HeaderSize + chunkcrypt.IVSize + chunkcrypt.TagSize

	MaxPlain = 128 << 20 // data of a blob
	MaxChunk = 16 << 20  // data of a chunk
)

const (
	offCRC = 8
	offIV  = 12
	offTag = offIV + chunkcrypt.IVSize
)

// ErrFormat is wrapped when bytes are not a sound blob.
var ErrFormat = errors.New("not a valid data blob")

// ErrNoKey is returned when a blob is encrypted and there is no key.
var ErrNoKey = errors.New("data is encrypted and no encryption key was given")

// Kind is one of the four encodings.
type Kind uint8

// The kinds. The zero value is no kind.
const (
	Plain Kind = 1 + iota
	Zstd
	Encrypted
	EncryptedZstd
)

// magics are the starts of the SHA-256 of "Proxmox Backup ... blob v1.0".
var magics = [...][8]byte{
	Plain:         {0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1},
	Zstd:          {0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f},
	Encrypted:     {0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0},
	EncryptedZstd: {0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b},
}

// Encrypted reports whether the payload is ciphertext.
func (k Kind) Encrypted() bool { return k == Encrypted || k == EncryptedZstd }

// Compressed reports whether the data was compressed.
func (k Kind) Compressed() bool { return k == Zstd || k == EncryptedZstd }

// HeaderSize returns how many bytes are in front of the payload.
func (k Kind) HeaderSize() int {
	if k.Encrypted() {
		return EncryptedHeaderSize
	}
	return HeaderSize
}

// String names the kind for people.
func (k Kind) String() string {
	switch k {
	case Plain:
		return "plain"
	case Zstd:
		return "zstd"
	case Encrypted:
		return "encrypted"
	case EncryptedZstd:
		return "encrypted zstd"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

func kindOf(magic [8]byte) (Kind, bool) {
	for k := Plain; k <= EncryptedZstd; k++ {
		if magics[k] == magic {
			return k, true
		}
	}
	return 0, false
}

// Header is what is in front of the payload.
type Header struct {
	Kind Kind
	CRC  uint32                   // of the payload
	IV   [chunkcrypt.IVSize]byte  // encrypted kinds only
	Tag  [chunkcrypt.TagSize]byte // encrypted kinds only
	Size int                      // of this header, bytes
}

// ParseHeader decodes the header of a blob. It looks at nothing behind it.
func ParseHeader(raw []byte) (Header, error) {
	if len(raw) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, len(raw), HeaderSize)
	}
	kind, ok := kindOf([8]byte(raw))
	if !ok {
		return Header{}, fmt.Errorf("%w: unknown magic %x", ErrFormat, raw[:8])
	}
	h := Header{Kind: kind, CRC: binary.LittleEndian.Uint32(raw[offCRC:]), Size: kind.HeaderSize()}
	if !kind.Encrypted() {
		return h, nil
	}
	if len(raw) < EncryptedHeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes, the header of encrypted data has %d", ErrFormat, len(raw), EncryptedHeaderSize)
	}
	h.IV = [chunkcrypt.IVSize]byte(raw[offIV:])
	h.Tag = [chunkcrypt.TagSize]byte(raw[offTag:])
	return h, nil
}

// Append encodes the header.
func (h Header) Append(dst []byte) []byte {
	dst = append(dst, magics[h.Kind][:]...)
	dst = binary.LittleEndian.AppendUint32(dst, h.CRC)
	if h.Kind.Encrypted() {
		dst = append(append(dst, h.IV[:]...), h.Tag[:]...)
	}
	return dst
}

// Check decodes the header and compares the CRC of the payload: all that can
// be known about a blob without a key and without unpacking it.
func Check(raw []byte) (Header, error) {
	h, err := ParseHeader(raw)
	if err != nil {
		return Header{}, err
	}
	if crc := crc32.ChecksumIEEE(raw[h.Size:]); crc != h.CRC {
		return Header{}, fmt.Errorf("%w: CRC of the payload is %08x, the header says %08x", ErrFormat, crc, h.CRC)
	}
	return h, nil
}

// MaxEncoded returns the capacity with which a buffer surely takes the blob of
// plain bytes of data. It exceeds the longest blob by working space.
func MaxEncoded(plain int) int {
	return EncryptedHeaderSize + zstd.Bound(plain) + chunkcrypt.TagSize
}
