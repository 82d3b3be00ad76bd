// Package tapefile reads and writes what lies on a backup tape: blocks, the
// header of each tape file, labels, and the archives of chunks, snapshots and
// catalogs.
//
// Integers are little-endian, times are seconds since 1970-01-01 UTC.
//
// # Blocks
//
// Every block has 262144 bytes.
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
// is no part of the format. The payloads of its blocks, one behind the other,
// are the content of a file.
//
// # Header of a file
//
//	offset  size  field
//	0       8     magic 63 ee 14 9f cd f2 9b 0c
//	8       8     magic of the content, see the constants of Content
//	16      16    uuid of the content, random
//	32      8     time of writing, signed
//	40      4     length of the JSON that follows, 1 to 65536
//	44      1     part number, 0; archives over several tapes were once meant
//	45      3     zero; ignored when read
//	48      n     JSON, indented by two spaces, without a line end
//
// # Contents
//
// A label and a media-set label are nothing but JSON, with sorted keys; the
// others have JSON in the order below, and data behind it. Readers accept any
// order and ignore keys that they do not know.
//
//	label             ctime, label_text, pool (optional), uuid
//	media-set label   ctime, encryption_key_fingerprint (optional), key-config
//	                  (optional, a key file as an object), pool, seq_nr, uuid
//	chunk archive     store; then chunks
//	snapshot archive  snapshot, store; then a pxar archive with the files of
//	                  the snapshot
//	catalog archive   uuid (of the tape), media_set_uuid, seq_nr; then the
//	                  catalog of that tape (package mediacatalog)
//
// A snapshot in a namespace is written ns/a/ns/b/vm/100/TIME, and its archive
// has another magic than one at the root; so have catalogs that may know such
// snapshots. Readers do not tell the two apart.
//
// # Chunks
//
//	offset  size  field
//	0       8     magic 48 57 6d f2 de 42 8f dc
//	8       32    digest
//	40      8     length of the blob
//	48      n     the blob (package blob)
//
// When the end of the medium comes near, a writer ends the file where it is:
// the last chunk may be cut anywhere. It is then written again on the next tape,
// and no catalog names it here.
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
