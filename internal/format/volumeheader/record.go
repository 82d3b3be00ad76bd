package volumeheader

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/zero"
)

// State says what the payload is.
type State uint8

// The states, see the package comment.
const (
	Filling State = iota + 1
	Complete
	Used
)

func (s State) String() string {
	switch s {
	case Filling:
		return "filling"
	case Complete:
		return "complete"
	case Used:
		return "used"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Record is what version 1 does not have.
type Record struct {
	State   State
	Size    int64         // of the image in bytes
	Start   int64         // of the payload, in bytes: a multiple of Sector
	Changed int64         // seconds since 1970-01-01 UTC
	Digest  digest.Digest // of the image; not zero

	// Where the image is from; zero if that is unknown.
	Repository string
	Snapshot   names.Snapshot
	Archive    names.Archive
}

// Named reports whether the record says which snapshot the image is from.
func (r Record) Named() bool { return r.Archive != "" }

// recordMagic is the start of SHA-256("Holdfast volume record v2.0").
var recordMagic = [8]byte{0x9c, 0x08, 0x32, 0x6b, 0xab, 0x75, 0x18, 0xef}

const (
	recordVersion = 2

	offRecordMagic   = 48
	offRecordVersion = 56
	offState         = 58
	offSize          = 64
	offStart         = 72
	offChanged       = 80
	offDigest        = 88
	offTexts         = 120
)

// MaxSize bounds an image.
const MaxSize = 1 << 60

// Validate reports whether a header can hold r.
func (r Record) Validate() error {
	switch {
	case r.State < Filling || r.State > Used:
		return fmt.Errorf("%w: %s", ErrFormat, r.State)
	case r.Size < 0 || r.Size > MaxSize:
		return fmt.Errorf("%w: an image of %d bytes", ErrFormat, r.Size)
	case r.Start < Sector || r.Start%Sector != 0 || r.Start > MaxSize:
		return fmt.Errorf("%w: a payload at byte %d", ErrFormat, r.Start)
	case r.Digest.IsZero():
		return fmt.Errorf("%w: the digest of the image is zero", ErrFormat)
	case !utf8.ValidString(r.Repository):
		return fmt.Errorf("%w: the repository's name is not UTF-8", ErrFormat)
	case !r.Named() && r != (Record{State: r.State, Size: r.Size, Start: r.Start, Changed: r.Changed, Digest: r.Digest}):
		return fmt.Errorf("%w: a snapshot without an archive", ErrFormat)
	case !r.Named():
		return nil
	}
	if err := r.Snapshot.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := names.ParseArchive(string(r.Archive)); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// texts are those that fit.
func (r Record) texts() [3]string {
	if !r.Named() {
		return [3]string{}
	}
	all := [3]string{r.Repository, r.Snapshot.Path(), string(r.Archive)}
	if !fits(all) {
		all[0] = ""
	}
	if !fits(all) {
		return [3]string{}
	}
	return all
}

func fits(texts [3]string) bool {
	n := offTexts
	for _, s := range texts {
		n += 2 + len(s)
	}
	return n <= offCRC
}

// put encodes a valid r into a sector whose record is zero.
func (r Record) put(b []byte) {
	be := binary.BigEndian
	copy(b[offRecordMagic:], recordMagic[:])
	be.PutUint16(b[offRecordVersion:], recordVersion)
	b[offState] = byte(r.State)
	be.PutUint64(b[offSize:], uint64(r.Size))
	be.PutUint64(b[offStart:], uint64(r.Start))
	be.PutUint64(b[offChanged:], uint64(r.Changed))
	copy(b[offDigest:], r.Digest[:])
	at := offTexts
	for _, s := range r.texts() {
		be.PutUint16(b[at:], uint16(len(s)))
		at += 2 + copy(b[at+2:], s)
	}
}

// parseRecord decodes a record whose magic and checksum are right.
func parseRecord(b []byte) (Record, error) {
	be := binary.BigEndian
	if v := be.Uint16(b[offRecordVersion:]); v > recordVersion {
		return Record{}, &VersionError{What: "record", Version: v}
	} else if v != recordVersion {
		return Record{}, fmt.Errorf("%w: a record of version %d", ErrFormat, v)
	}
	if !zero.Is(b[offRecord:offRecordMagic]) || !zero.Is(b[offState+1:offSize]) {
		return Record{}, fmt.Errorf("%w: something is where zeros should be", ErrFormat)
	}
	r := Record{
		State:   State(b[offState]),
		Size:    int64(be.Uint64(b[offSize:])),
		Start:   int64(be.Uint64(b[offStart:])),
		Changed: int64(be.Uint64(b[offChanged:])),
		Digest:  digest.Digest(b[offDigest:]),
	}
	if err := r.parseTexts(b[offTexts:offCRC]); err != nil {
		return Record{}, err
	}
	return r, r.Validate()
}

func (r *Record) parseTexts(b []byte) (err error) {
	var texts [3]string
	for i := range texts {
		if len(b) < 2 {
			return fmt.Errorf("%w: a name is cut off", ErrFormat)
		}
		n := int(binary.BigEndian.Uint16(b))
		if n > len(b)-2 {
			return fmt.Errorf("%w: a name of %d bytes is cut off", ErrFormat, n)
		}
		texts[i], b = string(b[2:2+n]), b[2+n:]
	}
	if !zero.Is(b) {
		return fmt.Errorf("%w: something follows the names", ErrFormat)
	}
	if texts[2] != "" {
		if r.Snapshot, err = names.ParseSnapshot(texts[1]); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		r.Repository, r.Archive = texts[0], names.Archive(texts[2])
	}
	if r.texts() != texts {
		return fmt.Errorf("%w: the snapshot %.80q is not written as it should be", ErrFormat, texts[1])
	}
	return nil
}
