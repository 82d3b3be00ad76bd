// Package iso9660 reads ISO 9660 images, with Rock Ridge or Joliet.
//
// # Layout
//
// Sectors of 2048 bytes; volume descriptors from sector 16 on, 2048 bytes each,
// numbers both little- and big-endian, of which the former are read.
//
//	descriptor  0 type 1: first, 2: further, 255: end | 1 "CD001" | 40 label 32 |
//	            80 blocks 4 | 88 escape sequences, of Joliet "%/@", "%/C", "%/E" |
//	            128 bytes a block 2 | 156 record of the root 34
//	record      0 length 1 | 2 block 4 | 10 bytes 4 | 18 date 7 | 25 flags 1:
//	            2 directory, 80 goes on in the next record | 26, 27 interleaved |
//	            32 length of name 1 | 33 name, behind it room for Rock Ridge
//
// Records do not cross sectors. Rock Ridge adds owner, mode, times, long names,
// symbolic links, devices, and directories that lie elsewhere because of their
// depth (CL); they are shown where they belong.
//
// # Which names count
//
// Those of Rock Ridge where the root has it, else those of Joliet, else those of
// ISO 9660, in lower case without version and trailing dot, as Linux shows them.
//
// # Refused
//
// Files in interleaved pieces, and those that Rock Ridge says are compressed.
//
// # IDs
//
// The place of a record in the image. There are no hard links.
//
// # Bounds
//
// A directory has at most 64 MiB, a file at most 4096 pieces of less than 4 GiB
// each, the Rock Ridge of a record at most 32 continued areas.
//
// # Source
//
// ECMA-119; SUSP and RRIP 1.12; Linux: fs/isofs.
package iso9660

import "encoding/binary"

const layer = "iso9660"

var le = binary.LittleEndian

const (
	sector       = 2048
	maxDirectory = 64 << 20
	maxPieces    = 4096
	maxContinued = 32

	flagDirectory = 0x02
	flagMore      = 0x80
)
