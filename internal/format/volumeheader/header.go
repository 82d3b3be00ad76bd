package volumeheader

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Sizes in bytes.
const (
	Sector = 512 // of device-mapper, whatever the device's own sectors are
	Size   = Sector
	// ShortSize is the header of version 1 without what follows it.
	ShortSize = 42
)

// Errors that callers tell apart; see also [VersionError].
var (
	ErrNone   = errors.New("no header of a volume")
	ErrFormat = errors.New("the header of the volume is damaged")
)

// VersionError reports a header that a later version of the format wrote.
type VersionError struct {
	What    string // "header" or "record"
	Version uint16
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("the volume's %s has version %d, and this program knows versions up to %d", e.What, e.Version, maxVersion)
}

const maxVersion = 2

var magic = [8]byte{0x26, 0x3d, 0xbe, 0x52, 0xba, 0x57, 0x67, 0x02}

const (
	offVersion = 8
	offHash    = 10
	offRecord  = ShortSize // where version 1 ends
	offCRC     = Size - 4
)

// Header says what a volume holds.
type Header struct {
	// Hash is the digest of the image as version 1 sees it: zero in state Filling.
	Hash digest.Digest
	// Record is nil if version 1 wrote the header.
	Record *Record
}

// Digest is that of the image that the volume holds, or is to hold.
func (h Header) Digest() digest.Digest {
	if h.Record != nil {
		return h.Record.Digest
	}
	return h.Hash
}

// Version is what the header says to programs that know version 1 only.
func (h Header) Version() int {
	if h.Start() == Sector {
		return 1
	}
	return 2
}

// Start is where the payload begins, in bytes.
func (h Header) Start() int64 {
	if h.Record != nil {
		return h.Record.Start
	}
	return Sector
}

// Holds reports whether the volume was filled with the image of this digest.
func (h Header) Holds(d digest.Digest) bool {
	return h.Hash == d && !d.IsZero()
}

// Short is a header of version 1.
func Short(d digest.Digest) Header { return Header{Hash: d} }

// Full is a header with a record.
func Full(r Record) Header {
	h := Header{Record: &r}
	if r.State != Filling {
		h.Hash = r.Digest
	}
	return h
}

// Put writes the header over a sector that is there. A short one leaves the
// rest of the sector as it was, unless that is a record, which goes.
func (h Header) Put(sector []byte) {
	b := sector[:Size]
	copy(b, magic[:])
	binary.BigEndian.PutUint16(b[offVersion:], uint16(h.Version()))
	copy(b[offHash:], h.Hash[:])
	switch {
	case h.Record != nil:
		clear(b[offRecord:])
		h.Record.put(b)
		binary.BigEndian.PutUint32(b[offCRC:], sum(b))
	case hasRecord(b):
		clear(b[offRecord:])
	}
}

// Parse decodes sector 0. It accepts trailing bytes.
func Parse(b []byte) (Header, error) {
	if len(b) < Size {
		return Header{}, fmt.Errorf("%w: %d bytes, a sector has %d", ErrNone, len(b), Size)
	}
	b = b[:Size]
	if [8]byte(b) != magic {
		return Header{}, fmt.Errorf("%w: it begins with %s", ErrNone, hex.EncodeToString(b[:8]))
	}
	version := binary.BigEndian.Uint16(b[offVersion:])
	if version == 0 {
		return Header{}, fmt.Errorf("%w: version 0", ErrFormat)
	}
	if version > maxVersion {
		return Header{}, &VersionError{What: "header", Version: version}
	}
	h := Header{Hash: digest.Digest(b[offHash:])}
	// A record whose checksum is wrong is what version 1 left of it.
	if hasRecord(b) && binary.BigEndian.Uint32(b[offCRC:]) == sum(b) {
		r, err := parseRecord(b)
		if err != nil {
			return Header{}, err
		}
		h.Record = &r
	}
	switch {
	case h.Record == nil && version == 2:
		return Header{}, fmt.Errorf("%w: version 2 without a valid record", ErrFormat)
	case h.Version() != int(version):
		return Header{}, fmt.Errorf("%w: version %d with a payload at byte %d", ErrFormat, version, h.Start())
	case h.Record != nil && Full(*h.Record).Hash != h.Hash:
		return Header{}, fmt.Errorf("%w: state %s with the hash %s", ErrFormat, h.Record.State, h.Hash)
	}
	return h, nil
}

func hasRecord(b []byte) bool {
	return slices.Equal(b[offRecordMagic:offRecordMagic+8], recordMagic[:])
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint32 { return crc32.Checksum(b[:offCRC], castagnoli) }
