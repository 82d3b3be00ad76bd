// Package cartridge keeps the medium of a virtual tape drive in a directory: a
// row of blocks and filemarks, and the memory chip with its attributes.
//
// # Files
//
//	cartridge.json  what the cartridge is, its counters and attributes ([Memory])
//	index           one entry of 32 bytes an object
//	data            the stored bytes of the blocks, one after the other
//	tail            a copy of entries, see below
//
// An entry, big-endian:
//
//	offset  size  field
//	0       8     where the stored bytes begin in data
//	8       8     filemarks before this object
//	16      4     length of the block as the host wrote it; 0 for a filemark
//	20      4     CRC-32C of the stored bytes
//	24      3     key check: the start of SHA-256 of the key; 0 when not encrypted
//	27      1     kind: 1 block, 2 filemark, 3 encrypted block
//	28      4     CRC-32C of bytes 0 to 27, after the object's number as 8 bytes
//
// The stored bytes of a plain block are the block. Those of an encrypted one are
// a random nonce of 12 bytes, the block in AES-256-GCM, and its tag of 16 bytes;
// the additional data is the object's number as 8 bytes. A block of zeros leaves
// a hole.
//
// # Order
//
// What was written is in the buffer of the drive until [Cartridge.Flush], or
// until much is: the bytes are handed to the system at once, the entries are kept
// in memory. A flush syncs data, then writes and syncs the entries, at most
// [maxPending] of them: so an entry on the disk is true, and after a crash at most
// the last maxPending entries can be torn, which opening sees and cuts away. What
// is on the medium after a crash, or after [Cartridge.Lose], is what was flushed
// and a prefix of what was not, as on a tape.
//
// A power cut spoils pages of 4096 bytes that are being written, with what was in
// them before. So the bytes after a flush begin with a page of their own, and the
// flushed entries in the page of the index that a flush is to write are copied to
// tail before, which is synced. An entry of tail counts where that of the index
// is torn.
//
// Overwriting first cuts the index, durably, and then the data: nothing that is
// there ever points at bytes of something newer.
//
// cartridge.json is replaced as a whole.
//
// # Errors
//
// [ErrEndOfData], [ErrKey], [ErrNoKey] and [*CorruptError] tell what is on the medium; others are
// those of the file system. After a failed flush nobody knows what the disk holds:
// every later write fails, until the cartridge is opened again.
//
// A Cartridge has one user at a time. Memory: the entries that wait (1 MiB) and
// one block.
package cartridge

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// MaxBlock is the longest block, in bytes: 8 MiB, as LTO drives say.
const MaxBlock = 8 << 20

var (
	// ErrEndOfData is wrapped when there is no object with this number.
	ErrEndOfData = errors.New("there is no such object on the medium")
	// ErrNoKey is wrapped when a block is encrypted and no key was given.
	ErrNoKey = errors.New("the block is encrypted")
	// ErrKey is wrapped when a block is encrypted with another key.
	ErrKey = errors.New("the block is encrypted with another key")
)

// CorruptError is an object that is not what was written.
type CorruptError struct {
	Object uint64
	Reason string
}

func (e *CorruptError) Error() string { return fmt.Sprintf("object %d: %s", e.Object, e.Reason) }

// Disk is what a cartridge needs of a file system.
type Disk interface {
	vfs.FS
	// OpenWrite opens a regular file for reading and writing.
	OpenWrite(name string) (vfs.File, error)
}
