// Package dirdrive is a drive without hardware: a directory whose tapes are
// plain files, in the form of PBS's drives of type "virtual". Both programs can
// use the same directory, one after the other.
//
// # Files
//
//	tape-LABEL.json           {"files": N}: a tape, and how many files it has
//	tapefile-POS-LABEL.json   one tape file, from 0: its blocks, no filemark
//	drive-status.json         {"current_tape": {"name": LABEL, "pos": N}} or null:
//	                          the tape in the drive, and the file where it stands
//	.drive.lck                flock(2) of who uses the drive
//
// Every file of a tape is there or the tape ends before it: a new file comes
// before the index that counts it. What lies behind the last whole block of a
// file was not written to its end, and is not read.
//
// # The end of a tape
//
// As there: room is what the configured size leaves after the files before
// this one, but at least 2 blocks, and counted anew with every file. Blocks
// beyond it, of which there may be 2, come with the early warning; the third is
// ErrFull.
//
// # Changer
//
// All tapes of the directory are in one magazine, in the order of their
// labels, with room for a multiple of eight. A tape in the drive leaves its
// slot empty. Moving needs the lock, so the drive must be closed.
//
// # Source
//
// proxmox-backup: src/tape/drive/virtual_tape.rs,
// pbs-tape/src/emulate_tape_writer.rs.
package dirdrive
