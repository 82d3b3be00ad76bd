// Package tape is what a tape drive and a changer are for those who use them:
// two interfaces, the errors that they share, and the stream of one tape file
// on top of the drive's blocks.
//
// A tape is a row of files, numbered from 0, each ended by a filemark. Every
// block has 256 KiB (internal/format/tapefile); what the files mean is
// internal/tape/job's business. Drives are LTO drives over SCSI (tape/lto) and
// directories in the form of PBS's virtual drive (tape/dirdrive), which are
// changers too; others are SCSI medium changers (tape/changer). Where there is
// none, job asks people.
//
// # What is on the medium
//
// A write that returned may still be in the drive's buffer. Only after
// [Drive.Sync] may anyone rely on it, and no catalog names a file before.
// Every drive tells of the early warning before the physical end: from then on
// there is room for a last block and a filemark, and for no more.
//
// # Streams
//
// A [Writer] and a [Reader] are one tape file as a stream of bytes. Between
// stream and drive lies a ring of [RingBlocks] blocks outside the heap, 16 MiB,
// with a goroutine at the drive's end: a drive stops, and a tape with it, when
// data comes too slowly for a moment. What is in the ring when the early
// warning comes is dropped, so the warning needs no room for it; [Writer.Written]
// says what is on the tape. Nothing is ever written twice: a block of which
// nobody knows whether it was written ends the file.
//
// # Errors
//
// The sentinels below are wrapped with where it happened. After a failed write,
// and after a scsi.TransportError, nobody knows where the drive stands: it takes
// nothing until Rewind, Locate or EndOfData made it known again. After
// ErrChanged not even the medium is known: the drive has to be opened anew, and
// the label read.
package tape

import "errors"

// The kinds of failure that users of a drive tell apart.
var (
	ErrNoMedium       = errors.New("no medium is loaded")
	ErrFilemark       = errors.New("a filemark")          // ReadBlock met the end of the file, the position is behind it
	ErrEndOfData      = errors.New("the end of the data") // nothing was written behind this position
	ErrFull           = errors.New("the medium is full")  // the physical end: what was being written is not there
	ErrWriteProtected = errors.New("the medium is write protected")
	ErrKey            = errors.New("the data is encrypted and its key is not loaded")
	ErrEarly          = errors.New("the end of the medium is near") // what follows belongs on another one
	ErrForeign        = errors.New("not written by this program")   // a block without the expected header
	ErrSequence       = errors.New("blocks are missing or doubled")
	ErrAborted        = errors.New("the file has no last block") // its writer or the drive failed
	ErrIncomplete     = errors.New("the file was given up by its writer")
	ErrChanged        = errors.New("the medium may have been changed, or the drive was reset")
	ErrBusy           = errors.New("another program uses the device")
	ErrUnsupported    = errors.New("the device cannot do this")
	ErrNoSuchSlot     = errors.New("there is no such slot")
	ErrNoSuchMedium   = errors.New("no medium with this label is there")
)
