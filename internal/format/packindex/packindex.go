// Package packindex reads and writes an index of a bucket: where the chunks of
// one session, or of many, lie.
//
// # Layout
//
// Blocks of 256 entries, the last with what is left; behind them the head, of
// which the length is told elsewhere. Integers are little-endian where nothing else is said.
//
//	offset  size  of an entry, in ascending order of the digests, none twice
//	0       32    digest
//	32      12    its pack (internal/format/pack)
//	44      4     where in the pack it begins
//	48      4     length of the encoded chunk, at least 1
//
// Behind the entries of each block lie 4 bytes, their CRC-32C. So a block has
// 13,316 bytes, and block i begins at i times that.
//
//	size       of the head
//	32 × b     the first digest of each block
//	3 × n      of each chunk the last three bytes of its digest
//	8          number of chunks n; of blocks there are b = n/256, rounded up
//	4          CRC-32C of the head before this field
//	8          "HFINDEX1"
//
// Who holds the head knows of a chunk which block it could be in, and, but for
// one in 65,536, that it is not there. An index has at least one chunk, and at
// most [MaxChunks].
//
// # Errors
//
// Bytes that are no index give an error wrapping [ErrFormat].
package packindex

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// Sizes in bytes.
const (
	EntrySize = digest.Size + pack.IDSize + 8
	PerBlock  = 256
	BlockSize = PerBlock*EntrySize + crcSize

	crcSize    = 4
	markSize   = 3
	footerSize = 8 + crcSize + 8
)

// MaxChunks is the most that one index has, MaxHead the bytes of its head; all of
// it has 900 MiB then.
const (
	MaxChunks = 16 << 20
	MaxHead   = MaxChunks/PerBlock*digest.Size + MaxChunks*markSize + footerSize
)

const magic = "HFINDEX1"

var (
	// ErrFormat is wrapped when bytes are not an index.
	ErrFormat = errors.New("not a valid index of packs")
	// ErrOrder is wrapped when a chunk does not follow the one before.
	ErrOrder = errors.New("chunks out of order")
	// ErrFull is wrapped when a chunk is one too many.
	ErrFull = errors.New("the index is full")
)

func table() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// Entry says where a chunk lies.
type Entry struct {
	Digest digest.Digest
	pack.Location
}

// Append encodes the entry, EntrySize bytes.
func (e Entry) Append(dst []byte) []byte {
	dst = e.Pack.Append(append(dst, e.Digest[:]...))
	dst = binary.LittleEndian.AppendUint32(dst, e.Off)
	return binary.LittleEndian.AppendUint32(dst, e.Len)
}

// parseEntry decodes the first EntrySize bytes of b.
func parseEntry(b []byte) (Entry, error) {
	at := b[digest.Size+pack.IDSize:]
	e := Entry{digest.Digest(b), pack.Location{
		Pack: pack.IDFrom(b[digest.Size:]),
		Off:  binary.LittleEndian.Uint32(at),
		Len:  binary.LittleEndian.Uint32(at[4:]),
	}}
	if err := e.Check(); err != nil {
		return Entry{}, fmt.Errorf("%w: chunk %s: %w", ErrFormat, e.Digest, err)
	}
	return e, nil
}

// checkBlock compares the CRC of a whole block and returns its entries.
func checkBlock(b []byte) ([]byte, error) {
	n := len(b) - crcSize
	if n < EntrySize || n%EntrySize != 0 || n > PerBlock*EntrySize {
		return nil, fmt.Errorf("%w: a block of %d bytes", ErrFormat, len(b))
	}
	stored, sum := binary.LittleEndian.Uint32(b[n:]), crc32.Checksum(b[:n], table())
	if stored != sum {
		return nil, fmt.Errorf("%w: a block has checksum %08x, it says %08x", ErrFormat, sum, stored)
	}
	return b[:n], nil
}

// FindIn searches a chunk in a block, all of whose bytes are b.
func FindIn(b []byte, d digest.Digest) (pack.Location, bool, error) {
	b, err := checkBlock(b)
	if err != nil {
		return pack.Location{}, false, err
	}
	lo, hi := 0, len(b)/EntrySize
	for lo < hi {
		mid := lo + (hi-lo)/2
		at := b[mid*EntrySize:]
		switch bytes.Compare(at[:digest.Size], d[:]) {
		case 0:
			e, err := parseEntry(at)
			return e.Location, err == nil, err
		case -1:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return pack.Location{}, false, nil
}

// size is how long an index of n chunks is, and its head.
func size(n int64) (all, head int64) {
	blocks := (n + PerBlock - 1) / PerBlock
	head = blocks*digest.Size + n*markSize + footerSize
	return n*EntrySize + blocks*crcSize + head, head
}
