package blob

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/zstd"
)

// Encoder makes blobs. It is not safe for concurrent use: each worker has one.
type Encoder struct {
	key  *chunkcrypt.Key // nil: no encryption
	rand io.Reader       // of IVs
	zstd *zstd.Encoder   // nil: no compression
	iv   [chunkcrypt.IVSize]byte
}

// NewEncoder returns an encoder that encrypts if key is not nil, with IVs read
// from rand, and compresses if told to. Close it.
func NewEncoder(key *chunkcrypt.Key, rand io.Reader, compress bool) (*Encoder, error) {
	e := &Encoder{key: key, rand: rand}
	if compress {
		z, err := zstd.NewEncoder()
		if err != nil {
			return nil, err
		}
		e.zstd = z
	}
	return e, nil
}

// Append appends the blob of plain to dst. It compresses only where that makes
// the payload shorter than plain. It allocates nothing, and may overwrite the
// spare capacity of dst, if that is at least [MaxEncoded] of len(plain). It
// fails when plain is longer than [MaxPlain] or there is no IV to be had.
func (e *Encoder) Append(dst, plain []byte) ([]byte, error) {
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("encode blob: %d bytes of data, the limit is %d", len(plain), MaxPlain)
	}
	start := len(dst)
	dst = slices.Grow(dst, MaxEncoded(len(plain)))
	kind := Plain
	if e.key != nil {
		kind = Encrypted
	}
	body := start + kind.HeaderSize()
	dst = dst[:body]

	payload := plain
	if e.zstd != nil && len(plain) > 0 {
		if n, ok := e.zstd.Compress(dst[body:body+len(plain)-1], plain); ok {
			payload = dst[body : body+n]
			kind += Zstd - Plain
		}
	}
	copy(dst[start:], magics[kind][:])
	if e.key == nil {
		if kind.Compressed() {
			dst = dst[:body+len(payload)]
		} else {
			dst = append(dst, payload...)
		}
	} else {
		if _, err := io.ReadFull(e.rand, e.iv[:]); err != nil {
			return nil, fmt.Errorf("encode blob: read a random IV: %w", err)
		}
		sealed, tag := e.key.Seal(dst, e.iv[:], payload)
		dst = sealed
		copy(dst[start+offIV:], e.iv[:])
		copy(dst[start+offTag:], tag[:])
	}
	binary.LittleEndian.PutUint32(dst[start+offCRC:], crc32.ChecksumIEEE(dst[body:]))
	return dst, nil
}

// Close releases the encoder, which must not be used again.
func (e *Encoder) Close() {
	if e.zstd != nil {
		e.zstd.Close()
	}
}
