// Package xfs reads XFS, versions 4 and 5.
//
// # Layout
//
// Allocation groups of equal size, each with inodes and blocks of its own. The
// number of an inode or a block of the file system is that of its group, shifted,
// and its place in the group. Numbers are big-endian, checksums (version 5,
// CRC-32C) little-endian.
//
//	superblock  0 "XFSB" | 4 bytes a block 4 | 8 blocks 8 | 32 UUID 16 |
//	            48 log at 8 | 56 root 8 | 84 blocks a group 4 | 88 groups 4 |
//	            96 blocks of the log 4 | 100 version 2 | 102 bytes a sector 2 |
//	            104 bytes an inode 2 | 108 label 12 | 120 to 124 logarithms |
//	            192 logarithm of blocks a directory block 1 | 200 features 4 |
//	            212, 216, 220 features of version 5, 4 each | 224 checksum 4
//	inode       0 "IN" | 2 mode 2 | 4 version 1 | 5 format 1 | 8 uid 4 | 12 gid 4 |
//	            16 links 4 | 32 accessed, modified, changed 8 each | 56 size 8 |
//	            76 extents 4 | 80 of attributes 2 | 82 attributes at 8 x 1 |
//	            83 their format 1 | 90 flags 2 | version 3: 100 checksum 4,
//	            120 flags 8, 144 created 8, 152 number 8; then the two forks
//	extent      bit 127 unwritten, 54 bits offset, 52 bits block, 21 bits length
//
// A fork is data itself, extents, or the root of a B-tree of extents. Small
// directories are a list in the inode; others blocks of names, below an offset of
// 32 GiB, with hash indexes behind it, which are not needed to list them.
//
// # Unclean images
//
// The log of an image of a running machine is applied in memory before anything is
// read. What it holds of operations that were to go on is refused: the kernel would
// finish them.
//
// # Refused
//
// Real-time files, metadata directories, file systems that need repair, and
// features that are not known.
//
// # Bounds
//
// B-trees have at most 9 levels, each lower than the one above; a block is never
// read twice on one path. Of a file that lies in a B-tree one leaf is kept. An
// attribute has at most 64 KiB, those of one file together 16 MiB.
//
// # Source
//
// XFS Algorithms & Data Structures, 3rd edition. Linux: fs/xfs/libxfs.
package xfs

import "encoding/binary"

const layer = "xfs"

var (
	be = binary.BigEndian
	le = binary.LittleEndian
)
