// Package lto drives LTO tape drives, generation 4 and later, over SCSI.
//
// # Opening
//
// [New] makes sure that the unit is a tape drive; that is enough to ask for its
// state. [Drive.Ready] waits until a medium can be used: no medium is an error
// at once, loading is waited for, 10 minutes, and as long as a drive gets to
// know a new medium (calibrates), which takes up to two hours. Then it sets
// what it relies on, in one MODE SELECT: blocks of variable length, the
// buffer, compression; no programmable early warning; encryption off. [Open] is
// both.
//
// # Position
//
// The driver counts what it writes, and compares with READ POSITION at every
// filemark: a block that was lost or written twice fails the file. Locating
// ends with READ POSITION too. LOCATE by file stops one file later on drives of
// IBM than on those of HP; the difference is learnt, corrected by SPACE, and
// where LOCATE is not known, SPACE from the beginning does it.
//
// # What is said while working
//
// A unit attention comes in place of a command, which was not carried out. If
// it says no more than that somebody changed a mode, the options are set again
// and the command is repeated. If the medium may have been changed or the drive
// was reset, everything but questions, ejecting and closing fails with
// tape.ErrChanged: a block must not go onto a medium whose label nobody read, nor
// to its beginning, nor be plain because a reset took the key away.
//
// A write that failed, in whatever way, is never repeated: nobody knows how
// much of it is on the medium. The same holds for errors that a drive reports
// late, of blocks that it had taken into its buffer; they come with a later
// command. After either the position counts as unknown.
//
// # Early warning
//
// 0/00/02, 0/00/07 and EOM without another key say that the end is near and that
// the data was written. D/xx says that it was not: tape.ErrFull. The drive then
// stands behind what was written before, which Sync makes sure of.
//
// # Time
//
// Commands that may take long on real drives have long timeouts, since a
// timeout resets the drive: 20 minutes for motion and data. Formats and long
// erases are started with IMMED and polled, up to a day. Waiting ends with the
// context, commands do not.
//
// # Source
//
// SSC-4, SPC-4; proxmox-backup: pbs-tape/src/sg_tape.rs and below for the order
// of things, and the differences between drives.
package lto
