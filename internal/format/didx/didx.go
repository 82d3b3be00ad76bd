// Package didx reads and writes the header and entry table of a dynamic chunk
// index, the ".didx" file of an archive that was cut where its content says.
//
// # Layout
//
// One header of 4096 bytes, whatever the page size of the machine, then one
// entry of 40 bytes per chunk. Integers are little-endian.
//
//	offset  size  field
//	0       8     magic 1c 91 4e a5 19 ba b3 cd
//	8       16    uuid, random
//	24      8     ctime, signed, seconds since 1970-01-01 UTC
//	32      32    SHA-256 over the entry table
//	64      4032  zero; ignored when read
//
//	0       8     end of the chunk in the archive, exclusive
//	8       32    digest of the chunk
//
// Chunk i covers [end of i-1, end of i), the first one starts at 0, and the
// last end is the size of the archive. There is at least one entry, and ends
// grow from entry to entry up to 2^63-1.
//
// # Trust
//
// Nothing in the file is authenticated, and the checksum in the header may be
// stale: compare [Index.Sum] and [Index.Size] with the manifest before the
// data is used.
//
// # Errors
//
// Bytes that are no index give an error wrapping [ErrFormat]. Opening checks
// header, file size and the last end; that ends grow is checked where entries
// are read: [Index.Validate], [Index.Sum] and [Index.Each] check all, Bounds
// and Find the two ends they answer with. Errors of the reader come back
// wrapped and are never ErrFormat.
//
// # Source
//
// proxmox-backup: pbs-datastore/src/dynamic_index.rs, file_formats.rs.
package didx

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Sizes in bytes.
const (
	HeaderSize = 4096
	EntrySize  = 8 + digest.Size
)

// ErrFormat is wrapped when bytes are not a dynamic index.
var ErrFormat = errors.New("not a valid dynamic index")

// magic is the start of SHA-256("Proxmox Backup dynamic sized chunk index v1.0").
var magic = [8]byte{0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd}

const (
	offUUID  = 8
	offCtime = 24
	offSum   = 32
)

// Header is the first page of an index.
type Header struct {
	UUID  [16]byte
	Ctime int64         // seconds since 1970-01-01 UTC
	Sum   digest.Digest // over the table; see Trust above
}

// ParseHeader decodes a header. It accepts trailing bytes.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, len(b), HeaderSize)
	}
	if [8]byte(b) != magic {
		return Header{}, fmt.Errorf("%w: magic %x", ErrFormat, b[:8])
	}
	return Header{
		UUID:  [16]byte(b[offUUID:]),
		Ctime: int64(binary.LittleEndian.Uint64(b[offCtime:])),
		Sum:   digest.Digest(b[offSum:]),
	}, nil
}

// Append encodes the header, HeaderSize bytes.
func (h Header) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b := dst[start:]
	copy(b, magic[:])
	copy(b[offUUID:], h.UUID[:])
	binary.LittleEndian.PutUint64(b[offCtime:], uint64(h.Ctime))
	copy(b[offSum:], h.Sum[:])
	return dst
}

// Entry is one chunk of an archive.
type Entry struct {
	End    uint64 // in the archive, exclusive, bytes
	Digest digest.Digest
}

// Append encodes the entry, EntrySize bytes. The checksum of an index is the
// SHA-256 of its encoded entries.
func (e Entry) Append(dst []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(dst, e.End), e.Digest[:]...)
}

func parseEntry(b []byte) Entry {
	return Entry{binary.LittleEndian.Uint64(b), digest.Digest(b[8:])}
}
