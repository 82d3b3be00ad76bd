package tape

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// DataKey is the key that a drive encrypts a media set with, derived from the
// tape key and the set. It does not print itself.
type DataKey struct{ k [32]byte }

// NewDataKey makes a key of its bytes.
func NewDataKey(k [32]byte) DataKey { return DataKey{k} }

// Bytes is the key itself.
func (d DataKey) Bytes() [32]byte { return d.k }

func (DataKey) String() string   { return "tape.DataKey(redacted)" }
func (DataKey) GoString() string { return "tape.DataKey(redacted)" }

// Keys gives the keys of media sets to a drive in this process.
type Keys interface {
	// DataKey derives the key; repo.ErrNotFound if the tape key is not known.
	DataKey(k KeyOf) (DataKey, error)
}

// Encrypter brings keys into drives over SCSI: with keys that this process has
// (tape/drivecrypt), or by a service that has them.
type Encrypter interface {
	// SetKey makes the drive behind t encrypt and decrypt with the key of k, and
	// makes sure that it does. ErrUnsupported is wrapped where the drive cannot,
	// repo.ErrNotFound where the key is not known.
	SetKey(ctx context.Context, t scsi.Transport, k KeyOf) error
}
