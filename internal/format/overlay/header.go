package overlay

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// magic is the start of SHA-256("Holdfast overlay file v1.0").
var magic = [8]byte{0xcd, 0xee, 0x1b, 0xab, 0xe1, 0x81, 0x30, 0x45}

const (
	offBlockSize = 12
	offSize      = 16
	offData      = 24
	offCreated   = 32
	offIndexSum  = 40
	offTexts     = 72
)

// Meta says over which image an overlay lies.
type Meta struct {
	Repository string // as the user named it
	Snapshot   names.Snapshot
	Archive    names.Archive
	Size       int64         // of the image in bytes
	IndexSum   digest.Digest // checksum of the archive's index, as in the manifest
	Created    int64         // seconds since 1970-01-01 UTC
}

// Validate reports whether a header can hold m.
func (m Meta) Validate() error {
	if m.Size <= 0 || m.Size > MaxSize {
		return fmt.Errorf("%w: an image of %d bytes, from 1 to %d are possible", ErrFormat, m.Size, int64(MaxSize))
	}
	if !utf8.ValidString(m.Repository) {
		return fmt.Errorf("%w: the repository's name is not UTF-8", ErrFormat)
	}
	if err := m.Snapshot.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := names.ParseArchive(string(m.Archive)); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	n := offTexts
	for _, s := range m.texts() {
		n += 2 + len(s)
	}
	if n > HeaderSize {
		return fmt.Errorf("%w: the names in the header have %d bytes too many", ErrFormat, n-HeaderSize)
	}
	return nil
}

func (m Meta) texts() [4]string {
	return [4]string{m.Repository, string(m.Snapshot.NS), m.Snapshot.String(), string(m.Archive)}
}

// Append encodes the header of a valid m, HeaderSize bytes.
func (m Meta) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	b, le := dst[start:], binary.LittleEndian
	copy(b, magic[:])
	le.PutUint32(b[offBlockSize:], BlockSize)
	le.PutUint64(b[offSize:], uint64(m.Size))
	le.PutUint64(b[offData:], uint64(DataOffset(m.Size)))
	le.PutUint64(b[offCreated:], uint64(m.Created))
	copy(b[offIndexSum:], m.IndexSum[:])
	at := offTexts
	for _, s := range m.texts() {
		le.PutUint16(b[at:], uint16(len(s)))
		at += 2 + copy(b[at+2:], s)
	}
	seal(b)
	return dst
}

// ParseHeader decodes and validates a header. It accepts trailing bytes.
func ParseHeader(b []byte) (Meta, error) {
	if len(b) < HeaderSize {
		return Meta{}, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if [8]byte(b) != magic {
		return Meta{}, fmt.Errorf("%w: magic %x", ErrFormat, b[:8])
	}
	if !sealed(b) {
		return Meta{}, fmt.Errorf("%w: the header's checksum is wrong", ErrFormat)
	}
	le := binary.LittleEndian
	if n := le.Uint32(b[offBlockSize:]); n != BlockSize {
		return Meta{}, fmt.Errorf("%w: blocks of %d bytes, want %d", ErrFormat, n, BlockSize)
	}
	size := le.Uint64(b[offSize:])
	if size == 0 || size > MaxSize {
		return Meta{}, fmt.Errorf("%w: an image of %d bytes", ErrFormat, size)
	}
	m := Meta{Size: int64(size), Created: int64(le.Uint64(b[offCreated:])), IndexSum: digest.Digest(b[offIndexSum:])}
	if at := le.Uint64(b[offData:]); at != uint64(DataOffset(m.Size)) {
		return Meta{}, fmt.Errorf("%w: the data begins at %d, want %d", ErrFormat, at, DataOffset(m.Size))
	}
	return m, m.parseTexts(b[offTexts:])
}

func (m *Meta) parseTexts(b []byte) error {
	var texts [4]string
	for i := range texts {
		if len(b) < 2 {
			return fmt.Errorf("%w: a name is cut off", ErrFormat)
		}
		n := int(binary.LittleEndian.Uint16(b))
		if n > len(b)-2 {
			return fmt.Errorf("%w: a name of %d bytes is cut off", ErrFormat, n)
		}
		texts[i], b = string(b[2:2+n]), b[2+n:]
	}
	if !allZero(b) {
		return fmt.Errorf("%w: something follows the names", ErrFormat)
	}
	ns, err := names.ParseNamespace(texts[1])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if m.Snapshot, err = names.ParseSnapshot(texts[2]); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	m.Snapshot.NS = ns
	m.Repository, m.Archive = texts[0], names.Archive(texts[3])
	if m.texts() != texts {
		return fmt.Errorf("%w: the snapshot %.80q is not written as it should be", ErrFormat, texts[2])
	}
	return m.Validate()
}
