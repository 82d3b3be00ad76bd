// Package mediacatalog reads and writes the catalog of one tape: which snapshots
// and chunks are in which of its files. It is a log, called UUID.log on disk,
// and the content of a catalog archive on tape.
//
// # Layout
//
// A magic of 8 bytes, 4c 8e e8 c1 20 a8 89 71, then records of a tag and a body.
// Integers are little-endian. Two bodies were once structures in the memory of a
// machine, with room between their fields: it is written as zeros and may hold
// anything.
//
//	tag  body
//	L    label: file number 8, uuid 16, sequence number 8. Of file 0 with the
//	     uuid of the medium and sequence number 0, then of file 1 with uuid and
//	     sequence number of the media set. A free tape has only the first.
//	A    a chunk archive begins: file number 8, uuid of the content 16, length
//	     of the store's name 1, room 7, the name
//	C    a chunk of it: digest 32
//	E    the archive ends: file number 8 and uuid 16 as in A
//	S    snapshot: file number 8, uuid of the content 16, length of the store's
//	     name 1, room 1, length of the path 2, room 4, the name, ':', the path
//	     with its namespace
//
// File numbers of A and S are at least 2 and grow. An empty file is a catalog
// that nobody has begun.
//
// # Torn and damaged logs
//
// Only what a writer has synced is surely there. What comes behind may be cut
// anywhere or read as something else after a crash. So a reader knows up to where
// the log is good, which is the end of a record that no archive is open behind,
// and an error says which of two things ended it: ErrTorn, the log ends within a
// record or an archive, or ErrCorrupt, something cannot be. The good part is true
// in either case.
//
// # Errors
//
// ErrTorn and ErrCorrupt are wrapped with the offset. Errors of what is read from
// are returned as they are.
//
// # Source
//
// proxmox-backup: src/tape/media_catalog.rs.
package mediacatalog
