// Package btrfs reads btrfs on one device or several: data that is single, doubled
// (DUP), striped (RAID 0), mirrored (RAID 1, 1C3, 1C4), both (RAID 10), or has parity
// (RAID 5, 6).
//
// # Layout
//
// Everything but the superblock is found by logical addresses, which chunks map to
// places on devices. Numbers are little-endian.
//
//	superblock  at 64 KiB: 0 checksum 32 | 32 UUID 16 | 48 its own place 8 |
//	            64 "_BHRfS_M" | 72 generation 8 | 80 root tree 8 | 88 chunk
//	            tree 8 | 96 log 8, 200 its level | 112 bytes 8 | 136 devices 8 | 144 sector 4 |
//	            148 node 4 | 160 bytes of first chunks 4 | 188 features 8 | 196 kind of
//	            checksums 2 | 198, 199 levels of the trees | 201 number of
//	            this device 8, 267 its UUID 16 | 299 label 256 | 811 first chunks
//	node        0 checksum 32 | 48 its own address 8 | 88 tree 8 | 96 items 4 |
//	            100 level 1 | 101 items: of a leaf a key, offset 4 and size 4, the
//	            data behind offset 101; else a key, address 8, generation 8
//	key         object 8, type 1, offset 8
//
// A tree of files has for each file an inode, its extents, its attributes and, of
// a directory, its entries by index. A subvolume is a tree of its own, and an entry
// leads to it; where a snapshot has copied such an entry, an empty directory is
// shown, as Linux does it. The root is the top level, which leads to all
// subvolumes, whatever the default one is.
//
// # Compression
//
// zlib, LZO and zstd, in extents of at most 128 KiB.
//
// # What is checked, and what is not
//
// Nodes have checksums (CRC-32C, xxHash, SHA-256, BLAKE2); of a node that is
// damaged the other copy is tried, or what the parity of all others gives.
// Checksums of data are not looked at.
//
// What an fsync wrote after the last commit is in a tree of logs, of which each has the
// items of the files in one subvolume that changed. They are applied in memory, as
// Linux does it at the next mount: inodes first, with what these have no more, then
// names of directories, then references to names, attributes and extents. What
// cannot be applied as a whole is left, and a notice says so: the last commit is a state of
// its own.
//
// # Refused
//
// Zoned devices, encrypted extents, and what lies on devices that are missing or were
// left behind by the others, where no copy is elsewhere. With parity one may be missing.
//
// # Bounds
//
// 64 nodes of at most 64 KiB; trees of at most 8 levels, each level one lower than
// that above; 65536 chunks with 2^20 stripes; of an open file one decompressed extent;
// 64 MiB of items of the log and of what it changes.
//
// # Source
//
// Linux: fs/btrfs, include/uapi/linux/btrfs_tree.h, and its text about LZO.
package btrfs

import "encoding/binary"

const layer = "btrfs"

var le = binary.LittleEndian

// Trees and objects with fixed numbers.
const (
	treeChunks  = 3
	treeFiles   = 5
	firstObject = 256
	emptyDir    = 2 // stands for a subvolume that is elsewhere
)

// Types of items.
const (
	itemInode    = 1
	itemXattr    = 24
	itemDirIndex = 96
	itemExtent   = 108
	itemRoot     = 132
	itemRootRef  = 156
	itemChunk    = 228
)

// Bounds, see the package comment.
const (
	maxNode      = 64 << 10
	maxLevel     = 7
	maxChunks    = 1 << 16
	maxStripes   = 1 << 20
	maxNodes     = 64
	maxUnpacked  = 128 << 10
	superAt      = 64 << 10
	superSize    = 4096
	headerSize   = 101
	itemSize     = 25
	pointerSize  = 33
	keySize      = 17
	firstChunks  = 811
	chunkHeader  = 48
	chunkStripe  = 32
	maxFirst     = 2048
	dirEntry     = 30
	inlineHeader = 21
)
