package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

const (
	blockSize = 64 << 10
	sumSize   = 8
	magic     = "HFCACHE1"
	tailSize  = 4 + 16 + len(magic)
	maxHead   = 8 << 10 // a key has 1024 bytes at most, which JSON may write with six each
)

// head says what a file holds.
type head struct {
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	Tag      string    `json:"tag"`
	Modified time.Time `json:"modified"`
	Off      int64     `json:"off"`
	N        int64     `json:"n"`
}

func (h head) info() objstore.Info {
	return objstore.Info{Key: h.Key, Size: h.Size, Tag: h.Tag, Modified: h.Modified}
}

// errBad is a file that is not what it should be.
var errBad = errors.New("damaged file of the cache")

// sumOf appends the sum of a block.
func sumOf(sums, block []byte) []byte {
	h := sha256.Sum256(block)
	return append(sums, h[:sumSize]...)
}

// appendEnd appends what follows the data.
func appendEnd(dst, sums []byte, h head) ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	dst = append(append(dst, sums...), text...)
	check := sha256.Sum256(dst[len(dst)-len(text)-len(sums):])
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(text)))
	return append(append(dst, check[:16]...), magic...), nil
}

// readEnd reads what follows the data of a file of that size.
func readEnd(f io.ReaderAt, size int64) (h head, sums []byte, err error) {
	var tail [tailSize]byte
	if size < int64(tailSize) {
		return h, nil, fmt.Errorf("%w: it has %d bytes", errBad, size)
	}
	if _, err := f.ReadAt(tail[:], size-int64(tailSize)); err != nil {
		return h, nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[:]))
	if string(tail[20:]) != magic || length > maxHead || length > size-int64(tailSize) {
		return h, nil, fmt.Errorf("%w: it has no end", errBad)
	}
	text := make([]byte, length)
	if _, err := f.ReadAt(text, size-int64(tailSize)-length); err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, nil, fmt.Errorf("%w: %w", errBad, err)
	}
	want := size - int64(tailSize) - length - h.N // bytes of sums
	if h.N < 0 || h.Off < 0 || h.N > h.Size || h.Off > h.Size-h.N || want < 0 || want != blocks(h.N)*sumSize {
		return h, nil, fmt.Errorf("%w: %d bytes do not fit a file of %d", errBad, h.N, size)
	}
	sums = make([]byte, want, want+length)
	if _, err := f.ReadAt(sums, h.N); err != nil {
		return h, nil, err
	}
	if check := sha256.Sum256(append(sums, text...)); string(check[:16]) != string(tail[4:20]) {
		return h, nil, fmt.Errorf("%w: sums and head are not what was written", errBad)
	}
	return h, sums, nil
}

func blocks(n int64) int64 { return (n + blockSize - 1) / blockSize }
