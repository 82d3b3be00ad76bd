// Package ext reads ext2, ext3 and ext4.
//
// # Layout
//
// Integers are little-endian, those of the journal big-endian. The superblock
// lies at byte 1024 and divides the image into blocks of 1 KiB to 64 KiB and the
// blocks into groups. A group descriptor says where the inodes of its group are;
// an inode says where the blocks of a file are: in a tree of extents, in blocks
// of block numbers (indirect blocks), or, with inline data, in the inode itself.
// A directory is a file of entries; an indexed one has a tree of hashes in it
// that looks like unused entries to those who do not know it. Each part of the
// format has a file of this package.
//
// # What is understood
//
// All that Linux 6.18 mounts, but for: compressed file systems, directories with
// data in their entries (dirdata), separate journal devices that hold work, fast
// commits that wait in the journal, and file systems of Hurd and Masix, whose
// inodes differ. Encrypted and verity files and directories with encrypted names
// are refused one by one. Checksums (metadata_csum, gdt_csum) are checked for all
// that is read.
//
// # The journal
//
// If the file system was in use, what its journal committed is laid over the
// blocks: a list of 32 bytes for each block says where in the journal it is, and
// the blocks are read from there and checked when they are needed. A journal with
// more than [maxReplay] blocks to replay is refused. What a mount does after that
// (it removes files that were deleted while open) is not seen in any directory.
//
// # Memory
//
// At most [cacheBytes] of blocks of metadata; the list of the journal; for each
// open file the extents of one leaf, 24 bytes for each 12 of a block; for each
// directory that is read, 64 blocks in a word, at most [maxVisits] words; and the extended
// attributes of one file, at most [maxXattrs].
//
// # Time
//
// Descriptors and inodes are read when they are asked for, never all. A leaf of
// a tree of extents begins at the block that its parent says, which no two leaves
// can; a directory has no block twice; the journal is passed once.
//
// # Source
//
// The documentation of ext4 and jbd2 in the Linux kernel, and what the kernel and
// e2fsprogs do with images made for it.
package ext
