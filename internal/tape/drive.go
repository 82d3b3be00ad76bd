package tape

import (
	"context"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
)

// BlockSize is the length of every block on a tape, in bytes.
const BlockSize = tapefile.BlockSize

// Drive is an open drive. It belongs to one user at a time and is not safe for
// concurrent use. Cancelling a context ends waiting and polling, never a
// command that the drive works on.
type Drive interface {
	// Rewind moves to the beginning of file 0.
	Rewind(ctx context.Context) error
	// Locate moves to the beginning of a file and makes sure that it is there;
	// ErrEndOfData if the tape has fewer files.
	Locate(ctx context.Context, file uint64) error
	// EndOfData moves behind the last file and returns the number that the next
	// one gets. A last file without its filemark gets one.
	EndOfData(ctx context.Context) (next uint64, err error)
	// File is the number of the file at the present position.
	File(ctx context.Context) (uint64, error)

	// ReadBlock reads the next block into p, which has BlockSize bytes. It
	// returns ErrFilemark behind the last block of a file and ErrEndOfData
	// behind the last file.
	ReadBlock(p []byte) (n int, err error)
	// WriteBlock writes p, BlockSize bytes. early says that the end of the
	// medium is near; the block was written all the same.
	WriteBlock(p []byte) (early bool, err error)
	// WriteFilemark ends a file. It does not wait until it is on the medium.
	WriteFilemark() (early bool, err error)
	// Sync returns when all that was written is on the medium.
	Sync(ctx context.Context) error

	// Format makes the medium empty. With fast it may leave old data behind the
	// new end of data.
	Format(ctx context.Context, fast bool) error
	// Eject takes the medium out of the drive.
	Eject(ctx context.Context) error

	// Encrypt makes the drive encrypt what it writes and decrypt what it reads
	// with the key of the media set; nil switches it off. It fails with
	// ErrUnsupported where a drive cannot.
	Encrypt(ctx context.Context, k *KeyOf) error

	// Close switches encryption off and lets go of the drive. The medium stays.
	Close() error
}

// KeyOf names the key of a media set. The key itself is known to whom the
// drive was opened with (see [Keys]), which need not be this process.
type KeyOf struct {
	Fingerprint chunkcrypt.Fingerprint
	MediaSet    uuid.UUID
}

// The abilities that only real drives have.
type (
	// Meter knows how much a medium holds.
	Meter interface {
		// Used is the number of bytes written to the loaded medium.
		Used(ctx context.Context) (int64, error)
	}
	// Alerter tells of trouble that drives keep apart from errors.
	Alerter interface {
		Alerts(ctx context.Context) (Alerts, error)
	}
	// Marker writes into the memory of a cartridge who uses it.
	Marker interface {
		// Mark fills the application's attributes; label or pool "" leaves that
		// attribute as it is.
		Mark(ctx context.Context, label, pool string) error
	}
)
