// Package ntfs reads NTFS.
//
// # Layout
//
// Everything is a file, and every file a record of the master file table (MFT),
// whose own first record says where it lies. A record is a list of attributes;
// values that are long lie in clusters, as runs. Numbers are little-endian.
//
//	boot sector  3 "NTFS    " | 11 bytes a sector 2 | 13 sectors a cluster 1 |
//	             40 sectors 8 | 48 cluster of the MFT 8 | 64 size of a record 1 |
//	             68 size of an index block 1 | 72 serial number 8
//	record       0 "FILE" | 4 fixups at 2, 6 how many 2 | 16 sequence 2 |
//	             20 first attribute 2 | 22 flags 2: in use, directory |
//	             24 bytes used 4 | 32 base record 8
//	attribute    0 type 4 | 4 length 4 | 8 not resident 1 | 9 units of name 1, 10
//	             at 2 | 12 flags 2: compressed, encrypted, sparse |
//	             resident: 16 length 4, 20 at 2 |
//	             else: 16 first cluster 8, 24 last 8, 32 runs at 2, 34 unit of
//	             compression 2, 48 size 8, 56 initialized 8
//	run          a byte with two lengths, a count, a distance from the run before
//
// The last two bytes of each 512 of records and index blocks were moved to the
// fixups and replaced by a number, to see torn writes. A file that has more
// attributes than fit lists them, with the records that hold them.
//
// A directory is a B-tree of names; its blocks are read as they lie, those that
// its bitmap has in use. Names for DOS beside a long one are left out.
//
// # What is shown
//
// Contents with all their forms: resident, sparse, compressed (LZNT1), behind the
// initialized size; those that Windows compressed as parts of the system (WOF:
// XPRESS in chunks of 4, 8 and 16 KiB, LZX). Further contents as streams. Symbolic links and junctions, as
// Windows writes them, and those of the Linux subsystem, with "/" between names;
// links and devices of Interix, which ntfs-3g writes. Files of the system itself
// (records below 16) are not listed.
//
// Refused for each file: encryption, contents that a filter of Windows must make
// (those in a WIM, deduplication, offline storage).
//
// # What is invented
//
// Owners and modes: 0755, without write permission if the file is read-only. The
// journal is not applied; a notice says if it shows, or the volume's own flag, that the
// volume was not unmounted.
//
// # IDs
//
// The reference of the record, with its sequence number in the highest 16 bits,
// which is checked unless it is 0.
//
// # Bounds
//
// 2^20 runs of 24 bytes for an open file and for the MFT, 4096 records and 256 KiB
// of attribute list for a file, 64 KiB of a record or index block, 2 MiB of what
// was decompressed last for an open file.
//
// # Source
//
// Linux: fs/ntfs3. Linux-NTFS project: NTFS documentation. Microsoft: MS-FSCC
// (reparse points), MS-XCA (LZNT1, XPRESS), MS-PATCH (LZX); wimlib's text about
// WIM files.
package ntfs

import "encoding/binary"

const layer = "ntfs"

var le = binary.LittleEndian

// Types of attributes.
const (
	typeStandard  = 0x10
	typeList      = 0x20
	typeName      = 0x30
	typeLabel     = 0x60
	typeVolume    = 0x70
	typeData      = 0x80
	typeIndexRoot = 0x90
	typeIndex     = 0xa0
	typeBitmap    = 0xb0
	typeReparse   = 0xc0
	typeEnd       = 0xffffffff
)

// Records with fixed numbers.
const (
	recMFT    = 0
	recVolume = 3
	recRoot   = 5
	firstUser = 16
)

// Bounds, see the package comment.
const (
	maxRuns    = 1 << 20
	maxList    = 256 << 10
	maxRecords = 4096
	maxBlock   = 64 << 10
)
