// Package fidx reads and writes the header and digest table of a fixed-size
// chunk index, the ".fidx" file of a disk image.
//
// # Layout
//
// One header of 4096 bytes, whatever the page size of the machine, then one
// 32-byte digest per chunk. Integers are little-endian.
//
//	offset  size  field
//	0       8     magic 2f 7f 41 ed 91 fd 0f cd
//	8       16    uuid, random
//	24      8     ctime, signed, seconds since 1970-01-01 UTC
//	32      32    SHA-256 over the digest table
//	64      8     size of the image in bytes
//	72      8     chunk size in bytes, a power of two
//	80      4016  zero; ignored when read
//
// There are ceil(size / chunk size) digests and nothing behind them. Chunk i
// covers [i*chunk size, (i+1)*chunk size); only the last one may be shorter.
//
// # Trust
//
// Nothing in the file is authenticated. The checksum in the header covers
// neither size nor chunk size, and may be stale: compare [Index.Sum] and
// [Header.Size] with the manifest before the data is used. Chunk sizes up to
// 2^63 are legal here; whoever takes memory for a chunk sets its own limit.
//
// # Errors
//
// Bytes that are no index give an error wrapping [ErrFormat]: a short file, a
// foreign magic, a chunk size that is not a power of two, an image size of
// zero or above 2^63-1, a file size that does not match the number of chunks.
// Errors of the reader come back wrapped and are never ErrFormat.
//
// # Source
//
// proxmox-backup: pbs-datastore/src/fixed_index.rs, file_formats.rs.
package fidx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// HeaderSize is the length of the header in bytes.
const HeaderSize = 4096

// ErrFormat is wrapped when bytes are not a fixed index.
var ErrFormat = errors.New("not a valid fixed index")

// magic is the start of SHA-256("Proxmox Backup fixed sized chunk index v1.0").
var magic = [8]byte{0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd}

const (
	offUUID      = 8
	offCtime     = 24
	offSum       = 32
	offSize      = 64
	offChunkSize = 72
)

// maxCount keeps the file size within int64 and the count within int.
const maxCount = min((math.MaxInt64-HeaderSize)/digest.Size, math.MaxInt)

// Header is the first page of an index.
type Header struct {
	UUID      [16]byte
	Ctime     int64         // seconds since 1970-01-01 UTC
	Sum       digest.Digest // over the table; see Trust above
	Size      uint64        // of the image, bytes
	ChunkSize uint64        // bytes, a power of two
}

// ParseHeader decodes and validates a header. It accepts trailing bytes.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, len(b), HeaderSize)
	}
	if [8]byte(b) != magic {
		return Header{}, fmt.Errorf("%w: magic %x", ErrFormat, b[:8])
	}
	le := binary.LittleEndian
	h := Header{
		UUID:      [16]byte(b[offUUID:]),
		Ctime:     int64(le.Uint64(b[offCtime:])),
		Sum:       digest.Digest(b[offSum:]),
		Size:      le.Uint64(b[offSize:]),
		ChunkSize: le.Uint64(b[offChunkSize:]),
	}
	if err := h.Validate(); err != nil {
		return Header{}, err
	}
	return h, nil
}

// Validate reports whether an index with this header can exist. ParseHeader
// has done it; a writer does it before it makes a file.
func (h Header) Validate() error {
	switch {
	case h.ChunkSize == 0 || h.ChunkSize&(h.ChunkSize-1) != 0:
		return fmt.Errorf("%w: chunk size %d is not a power of two", ErrFormat, h.ChunkSize)
	case h.Size == 0:
		return fmt.Errorf("%w: image size is zero", ErrFormat)
	case h.Size > math.MaxInt64:
		return fmt.Errorf("%w: image size %d is out of range", ErrFormat, h.Size)
	case h.count() > maxCount:
		return fmt.Errorf("%w: %d chunks are too many", ErrFormat, h.count())
	}
	return nil
}

// Append encodes the header, HeaderSize bytes.
func (h Header) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b := dst[start:]
	le := binary.LittleEndian
	copy(b, magic[:])
	copy(b[offUUID:], h.UUID[:])
	le.PutUint64(b[offCtime:], uint64(h.Ctime))
	copy(b[offSum:], h.Sum[:])
	le.PutUint64(b[offSize:], h.Size)
	le.PutUint64(b[offChunkSize:], h.ChunkSize)
	return dst
}

// Count returns the number of chunks of a valid header.
func (h Header) Count() int { return int(h.count()) }

// FileSize returns the length in bytes of an index with this valid header.
func (h Header) FileSize() int64 { return SlotOffset(h.Count()) }

func (h Header) count() uint64 {
	n := h.Size / h.ChunkSize
	if h.Size%h.ChunkSize != 0 {
		n++
	}
	return n
}

// Bounds returns the bytes [start, end) of the image that chunk i covers. It
// panics if there is no chunk i.
func (h Header) Bounds(i int) (start, end int64) {
	if i < 0 || uint64(i) >= h.count() {
		panic(fmt.Sprintf("fidx: chunk %d of %d", i, h.count()))
	}
	from := uint64(i) * h.ChunkSize
	return int64(from), int64(from + min(h.ChunkSize, h.Size-from))
}

// Find returns the chunk that holds the byte at off, and the offset of that
// byte in the chunk. ok is false outside the image.
func (h Header) Find(off int64) (i int, rel int64, ok bool) {
	if off < 0 || uint64(off) >= h.Size {
		return 0, 0, false
	}
	return int(uint64(off) / h.ChunkSize), int64(uint64(off) & (h.ChunkSize - 1)), true
}

// SlotOffset returns where in the file the digest of chunk i lies.
func SlotOffset(i int) int64 { return HeaderSize + digest.Size*int64(i) }
