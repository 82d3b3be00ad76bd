// Package squashfs reads squashfs, version 4.0, with every compression that it has.
//
// # Layout
//
// Numbers are little-endian. All but contents is metadata: blocks of 8 KiB, each
// behind 2 bytes with its length and, in the highest bit, that it is not
// compressed. A place in metadata is where a block begins, counted from its table,
// and where in the block, in the lowest 16 bits.
//
//	superblock  0 "hsqs" | 4 inodes 4 | 12 bytes a block 4 | 16 fragments 4 |
//	            20 compression 2 | 22 the block's power of two 2 | 26 owners 2 |
//	            28 version 2, 30 its minor 2 | 32 root inode 8 | 40 bytes used 8 |
//	            48 table of owners 8, 56 of attributes, 64 of inodes,
//	            72 of directories, 80 of fragments
//	inode       0 type 2 | 2 mode 2 | 4 index of owner 2, 6 of group 2 |
//	            8 modified 4 | 12 number 4 | what the type has
//	directory   headers: 0 entries less 1 4 | 4 block of the inodes 4 |
//	            8 number 4; entries: 0 place in the block 2 | 4 type 2 |
//	            6 length of name less 1 2 | 8 name
//
// Contents lie in one piece: blocks behind each other, with the length of each in
// the inode (bit 24: not compressed; 0: a hole). A tail may lie in a fragment, a
// block that files share. Owners, fragments and the places of attributes are in
// tables, whose blocks a list names.
//
// # Compression
//
// gzip (zlib), LZMA, LZO, XZ with its filters for programs, LZ4, zstd.
//
// # IDs
//
// The place of the inode. Hard links are entries with one place.
//
// # Refused
//
// Other versions, among them those in big-endian, and filters of XZ that are not
// known.
//
// # Bounds
//
// 64 blocks of metadata, 4 fragments of up to 1 MiB, and of an open file one block and
// 4096 places of the list of its blocks. 65536 owners are read one by one.
//
// # Source
//
// Linux: fs/squashfs.
package squashfs

import "encoding/binary"

const layer = "squashfs"

var le = binary.LittleEndian

// Bounds and sizes, see the package comment.
const (
	superSize    = 96
	metaSize     = 8 << 10
	maxMeta      = 64
	maxFragments = 4
	minBlock     = 4 << 10
	maxBlock     = 1 << 20
	maxTarget    = 4096
	maxEntries   = 256
	maxAttrs     = 16 << 20
	none         = 0xffffffff // of fragments and attributes
)
