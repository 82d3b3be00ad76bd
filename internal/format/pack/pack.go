// Package pack reads and writes what surrounds the chunks in a pack, the object
// of a bucket that holds many of them, and the names of packs and places.
//
// # Layout
//
// Encoded chunks (internal/format/blob) one after the other, without gaps, from
// the first byte on. Then the table, an entry of 36 bytes for each chunk in the
// order in which they lie, and the footer of 32 bytes. Integers are
// little-endian.
//
//	offset  size  field of an entry
//	0       32    digest
//	32      4     length of the encoded chunk, at least 1
//
//	offset  size  field of the footer
//	0       4     number of chunks
//	4       4     offset of the table, which is the sum of the lengths
//	8       16    the first bytes of the SHA-256 of the table and of these 8 bytes
//	24      8     "HFPACK01"
//
// A pack has less than 4 GiB, and at least one chunk.
//
// # Names
//
// An [ID] is the number of the session that wrote the pack, and which of its
// packs it is. As bytes it has 12, both numbers big-endian, so that bytes order
// as numbers do; as text 24 lower-case hex digits.
//
// # Errors
//
// Bytes that are no pack give an error wrapping [ErrFormat]. Errors of the reader
// come back wrapped and are never ErrFormat.
package pack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
)

// Sizes in bytes.
const (
	IDSize     = 12
	EntrySize  = digest.Size + 4
	FooterSize = 32

	MaxSize  = math.MaxUint32                           // of a pack
	MaxChunk = blob.MaxChunk + blob.EncryptedHeaderSize // of an encoded chunk
)

// ErrFormat is wrapped when bytes are not a pack, or text does not name one.
var ErrFormat = errors.New("not a valid pack")

const magic = "HFPACK01"

const (
	offTable = 4
	offSum   = 8
	offMagic = 24
)

// ID names a pack.
type ID struct {
	Session uint64
	Number  uint32
}

// ParseID reads what String prints.
func ParseID(s string) (ID, error) {
	var b [IDSize]byte
	if len(s) != 2*IDSize {
		return ID{}, fmt.Errorf("%w: %q does not name one, which takes %d hex digits", ErrFormat, s, 2*IDSize)
	}
	if _, err := hex.Decode(b[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("%w: %q does not name one: %w", ErrFormat, s, err)
	}
	return IDFrom(b[:]), nil
}

// IDFrom decodes the first IDSize bytes of b.
func IDFrom(b []byte) ID {
	return ID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:IDSize])}
}

// Append encodes the name, IDSize bytes.
func (id ID) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(dst, id.Session), id.Number)
}

// String returns 24 lower-case hex digits.
func (id ID) String() string { return fmt.Sprintf("%016x%08x", id.Session, id.Number) }

// Key is that of the pack's object, below the address of the repository.
func (id ID) Key() string { return fmt.Sprintf("s/%016x/p%08x", id.Session, id.Number) }

// Compare orders names as their bytes and digits are ordered.
func (id ID) Compare(o ID) int {
	return cmp.Or(cmp.Compare(id.Session, o.Session), cmp.Compare(id.Number, o.Number))
}

// MarshalText implements encoding.TextMarshaler.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) error {
	v, err := ParseID(string(b))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// Location is where an encoded chunk lies.
type Location struct {
	Pack     ID
	Off, Len uint32
}

// Compare orders locations as they lie.
func (l Location) Compare(o Location) int {
	return cmp.Or(l.Pack.Compare(o.Pack), cmp.Compare(l.Off, o.Off), cmp.Compare(l.Len, o.Len))
}

// Check refuses what no pack has.
func (l Location) Check() error {
	if l.Len == 0 || l.Len > MaxChunk || uint64(l.Off)+uint64(l.Len) > MaxSize {
		return fmt.Errorf("%w: %d bytes at %d of pack %s are no chunk", ErrFormat, l.Len, l.Off, l.Pack)
	}
	return nil
}

// Entry is one chunk of a pack.
type Entry struct {
	Digest digest.Digest
	Len    uint32 // encoded, bytes
}

// AppendTable encodes the table and the footer of a pack with these chunks.
// Chunks of lengths that no pack can have are a mistake of the caller.
func AppendTable(dst []byte, entries []Entry) []byte {
	start, at := len(dst), uint64(0)
	for _, e := range entries {
		if e.Len == 0 || e.Len > MaxChunk {
			panic(fmt.Sprintf("pack: internal error: a chunk of %d bytes", e.Len))
		}
		at += uint64(e.Len)
		dst = append(dst, e.Digest[:]...)
		dst = binary.LittleEndian.AppendUint32(dst, e.Len)
	}
	if len(entries) == 0 || at+TailSize(len(entries)) > MaxSize {
		panic(fmt.Sprintf("pack: internal error: %d chunks of %d bytes in one pack", len(entries), at))
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(entries)))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(at))
	sum := sha256.Sum256(dst[start:])
	dst = append(dst, sum[:offMagic-offSum]...)
	return append(dst, magic...)
}

// TailSize is the length of the table and footer for n chunks.
func TailSize(n int) uint64 { return uint64(n)*EntrySize + FooterSize }

// ParseFooter says how long table and footer are together, in a pack of size
// bytes that ends in these FooterSize bytes.
func ParseFooter(footer []byte, size int64) (tail int64, err error) {
	if len(footer) != FooterSize || size < FooterSize+EntrySize || size > MaxSize {
		return 0, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	if !bytes.Equal(footer[offMagic:], []byte(magic)) {
		return 0, fmt.Errorf("%w: it ends in %x", ErrFormat, footer[offMagic:])
	}
	n, table := binary.LittleEndian.Uint32(footer), binary.LittleEndian.Uint32(footer[offTable:])
	tail = int64(n)*EntrySize + FooterSize
	if n == 0 || int64(table)+tail != size {
		return 0, fmt.Errorf("%w: the table of %d chunks at %d is not the end of %d bytes", ErrFormat, n, table, size)
	}
	return tail, nil
}

// ParseTable decodes the chunks of a pack of size bytes from its table and
// footer, with which tail must end.
func ParseTable(tail []byte, size int64) ([]Entry, error) {
	if len(tail) < FooterSize {
		return nil, fmt.Errorf("%w: only %d bytes of its end", ErrFormat, len(tail))
	}
	n, err := ParseFooter(tail[len(tail)-FooterSize:], size)
	if err != nil {
		return nil, err
	}
	if n > int64(len(tail)) {
		return nil, fmt.Errorf("%w: its table and footer have %d bytes, only %d are there", ErrFormat, n, len(tail))
	}
	tail = tail[int64(len(tail))-n:]
	table, footer := tail[:n-FooterSize], tail[n-FooterSize:]
	sum := sha256.Sum256(tail[:n-FooterSize+offSum])
	if !bytes.Equal(sum[:offMagic-offSum], footer[offSum:offMagic]) {
		return nil, fmt.Errorf("%w: its table has another checksum than the footer says", ErrFormat)
	}
	entries := make([]Entry, 0, len(table)/EntrySize)
	at := uint64(0)
	for ; len(table) > 0; table = table[EntrySize:] {
		e := Entry{digest.Digest(table), binary.LittleEndian.Uint32(table[digest.Size:])}
		if e.Len == 0 || e.Len > MaxChunk {
			return nil, fmt.Errorf("%w: chunk %d has %d bytes", ErrFormat, len(entries), e.Len)
		}
		at += uint64(e.Len)
		entries = append(entries, e)
	}
	if end := uint64(size - n); at != end {
		return nil, fmt.Errorf("%w: its chunks end at %d, its table begins at %d", ErrFormat, at, end)
	}
	return entries, nil
}

// guess is how much of the end is read at first: the table of 1,800 chunks.
const guess = 64 << 10

// ReadTable reads the table of a pack of size bytes, mostly with one read.
func ReadTable(r io.ReaderAt, size int64) ([]Entry, error) {
	if size < FooterSize {
		return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, size)
	}
	tail, err := readTail(r, size, min(size, guess))
	if err != nil {
		return nil, err
	}
	n, err := ParseFooter(tail[len(tail)-FooterSize:], size)
	if err != nil {
		return nil, err
	}
	if n > int64(len(tail)) {
		if tail, err = readTail(r, size, n); err != nil {
			return nil, err
		}
	}
	return ParseTable(tail, size)
}

func readTail(r io.ReaderAt, size, n int64) ([]byte, error) {
	b := make([]byte, n)
	if k, err := r.ReadAt(b, size-n); k < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read the table of a pack: %w", err)
	}
	return b, nil
}
