// Package tapefile reads and writes what lies on a backup tape: blocks, the
// content header of each tape file, labels, and the archives of chunks,
// snapshots and catalogs.
//
// # Blocks
//
// Every block has 262144 bytes. Integers are little-endian.
//
//	offset  size    field
//	0       8       magic dc bd af ca eb a0 a5 28
//	8       1       flags: 1 last block of its file, 2 file given up
//	9       3       length of the payload, at most 262128
//	12      4       number of the block in its file, from 0
//	16      262128  payload, then zeros
//
// Full blocks have flags 0. The last block of a file always has flag 1 and may
// be empty: n bytes take n/262128+1 blocks. Flag 2 counts in the last block
// only. Other flags are ignored. Behind the last block stands a filemark, which
// is no part of the format.
//
// # Errors
//
// ErrMagic is wrapped for a block of somebody else, ErrFormat for everything
// else that is wrong with bytes. Readers return the errors of what they read
// from as they are, and these are neither.
//
// # Source
//
// proxmox-backup: pbs-tape/src/lib.rs, blocked_reader.rs, blocked_writer.rs,
// src/tape/file_formats/, src/tape/drive/mod.rs.
package tapefile
