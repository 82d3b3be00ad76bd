// Package md reads arrays of Linux: which members images are, which arrays they
// make, and the content of these as images.
//
// # Layout
//
// The superblock of version 1 is little-endian and lies at least 8 KiB before the
// end (1.0), at the start (1.1) or at 4096 (1.2). Sectors have 512 bytes.
//
//	0 magic a92b4efc | 4 version 4 | 8 features 4 | 16 UUID of the array 16 |
//	32 name 32 | 72 level 4, 76 layout 4 | 80 sectors used of each member 8 |
//	88 sectors of a chunk 4 | 92 members 4 | 128 first sector of data 8,
//	136 how many 8 | 144 its own sector 8 | 152 rebuilt up to 8 | 160 number of
//	this member 4 | 200 events 8 | 208 in sync up to 8 | 216 checksum 4 |
//	220 roles 4 | 256 roles 2 each: a place in the array, ffff spare, fffe failed
//
// That of version 0.90 has 1024 numbers of 4 bytes, in the byte order of who made
// it, in the last whole 64 KiB of a member, and data from the member's start.
//
//	0 magic | 1 version (0) | 2 minor | 5, 13, 14, 15 UUID | 7 level | 8 KiB used
//	of each member | 10 members | 11 number of the array | 33 state: 1 clean |
//	38 checksum | 39 events 2 | 44 reshaped up to 2 | 64 layout | 65 bytes of a
//	chunk | 128 members, 32 numbers each: number, -, -, place, state (1 failed,
//	2 active, 4 in sync) | 992 this member
//
// # What counts
//
// The members with the most events, and those that miss one: an array that writes
// its superblocks may be caught between two of them. Of those, the newest says which
// place each has. A member that is a spare, has failed, is being rebuilt or has been
// left behind by the others is none.
//
// # What is read
//
// Linear; RAID 0, of members of different sizes too; RAID 1; RAID 4, 5 and 6 in all
// layouts; RAID 10, near, far and offset. A member that is missing is no harm
// where others have its data; in RAID 4, 5 and 6 one that is missing is computed
// from parity, if the array was in sync; if it was not, that is refused.
//
// # Refused
//
// Arrays that are being reshaped, those with a journal, members with a list of bad blocks,
// and other levels.
//
// # Errors
//
// fsread.ErrOther for what is no member; [*MissingError]; UnsupportedError,
// CorruptError.
//
// # Bounds
//
// 1920 roles, 384 members of an array; of what is computed from parity 64 KiB at
// a time.
//
// # Source
//
// Linux: include/uapi/linux/raid/md_p.h, drivers/md/md.c, raid0.c, raid5.c, raid10.c.
package md

import (
	"encoding/binary"
	"fmt"
)

const (
	layer  = "md"
	sector = 512
	magic  = 0xa92b4efc
)

var le = binary.LittleEndian

// Bounds, see the package comment.
const (
	maxRoles   = 1920
	maxMembers = 384
	maxParity  = 64 << 10
)

// MissingError is an array that lacks members.
type MissingError struct {
	Array    string
	Have, Of int // members
	Behind   int // of those that are there and do not count, since they were left behind
}

func (e *MissingError) Error() string {
	s := fmt.Sprintf("md: array %s: of its %d members %d are among the disks of the snapshot, which is too few", e.Array, e.Of, e.Have)
	if e.Behind > 0 {
		s += fmt.Sprintf(" (%d more failed, are being rebuilt, or were left behind, as their event counts say)", e.Behind)
	}
	return s
}
