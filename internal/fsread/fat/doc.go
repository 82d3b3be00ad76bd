// Package fat reads FAT12, FAT16, FAT32 and exFAT.
//
// # Layout
//
// FAT: a boot sector, copies of the table, the root directory of FAT12 and FAT16,
// clusters from number 2 on. Numbers are little-endian.
//
//	boot sector  11 bytes a sector 2 | 13 sectors a cluster 1 | 14 reserved 2 |
//	             16 tables 1 | 17 entries of the root 2 | 19 sectors 2 |
//	             22 sectors a table 2 | 32 sectors 4 | FAT32: 36 sectors a table 4,
//	             40 flags 2, 44 cluster of the root 4
//	entry        11 name | 11 attributes 1 | 12 case 1 | 13 created 1+2+2 |
//	             18 accessed 2 | 20 cluster, high 2 | 22 modified 2+2 |
//	             26 cluster, low 2 | 28 size 4
//
// Long names stand before their entry, last part first, 13 units of UTF-16 in
// each, with a checksum of the short name; a part that does not belong to the
// entry that follows is ignored, as by others. Short names are of code page 437.
//
// exFAT: a boot sector, one table, clusters; an entry is a set of 32-byte records
// with a checksum: file (0x85), stream (0xC0), names (0xC1). Files that lie in one
// piece do not use the table. What is behind the valid length reads as zeros.
//
// # What is invented
//
// Owner (0) and mode: 0755, without write permission if the entry is read-only.
// There are no links of any kind. Times of FAT have no zone and are taken as UTC;
// those of exFAT carry one.
//
// # Names
//
// UTF-8, lone surrogates as WTF-8. Lookup ignores case where no name is written
// exactly so.
//
// # IDs
//
// The place of a file's entry in the image; 0 is the root. On exFAT the highest bit
// says that the directory lies in one piece.
//
// # Bounds
//
// A directory has at most 65536 entries on FAT (2 MiB) and 256 MiB on exFAT, as
// for others who read them. The chain of a file is read up to its size, into
// runs, at most [maxRuns] for each open file, 24 bytes each.
//
// # Source
//
// Microsoft: FAT: General Overview of On-Disk Format 1.03; exFAT file system
// specification. Linux: fs/fat, fs/exfat.
package fat

import "encoding/binary"

var le = binary.LittleEndian

// maxRuns bounds the fragments of one file.
const maxRuns = 1 << 20
