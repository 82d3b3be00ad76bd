// Package pxar reads and writes pxar archives: a directory tree with all that
// a POSIX file system knows of it, as one stream, or as one of metadata and one
// of file contents.
//
// # Grammar
//
//	archive   = [FORMAT_VERSION [PRELUDE]] metadata dirbody
//	metadata  = ENTRY XATTR* ACL_USER* ACL_GROUP* [ACL_GROUP_OBJ] [ACL_DEFAULT]
//	            ACL_DEFAULT_USER* ACL_DEFAULT_GROUP* [FCAPS] [QUOTA_PROJID]
//	dirbody   = direntry* GOODBYE
//	direntry  = FILENAME ( HARDLINK | metadata
//	            [PAYLOAD | PAYLOAD_REF | SYMLINK | DEVICE | dirbody] )
//
// Attributes are written in this order and read in any. Version 1 (".pxar") has
// no FORMAT_VERSION item and keeps contents in PAYLOAD items. Version 2 starts with
// one, has PAYLOAD_REF in their place (".mpxar"), and a second stream
// (".ppxar") with the contents.
//
// # Items
//
// Integers are little-endian; nothing is aligned or padded. An item is its type
// in 8 bytes, its full size including these 16 bytes in 8, and its content:
//
//	FORMAT_VERSION    2 in 8 bytes; 1 is read and means inline contents
//	PRELUDE           any bytes; see [Prelude]
//	ENTRY             mode 8, flags 8, uid 4, gid 4, mtime seconds 8 (signed),
//	                  nanoseconds 4, zero 4
//	ENTRY_V1          mode 8, flags 8, uid 4, gid 4, mtime nanoseconds 8; only read
//	FILENAME          name, NUL
//	SYMLINK           target, NUL
//	HARDLINK          distance back to the FILENAME item of the target 8, path
//	                  of the target from the root without a leading slash, NUL
//	DEVICE            major 8, minor 8
//	XATTR             name, NUL, value
//	ACL_USER, ACL_GROUP, ACL_DEFAULT_USER, ACL_DEFAULT_GROUP
//	                  id 8, permissions 8
//	ACL_GROUP_OBJ     permissions 8
//	ACL_DEFAULT       permissions of owner, group, others and mask, 8 each; all
//	                  bits set: there is none
//	FCAPS             the value of security.capability
//	QUOTA_PROJID      id 8
//	PAYLOAD           the content of a file
//	PAYLOAD_REF       offset of the PAYLOAD header in the payload stream 8, size
//	                  of the content 8
//	GOODBYE           the table of a directory
//
// A type is the hash of a text, as "__PROXMOX_FORMAT_FILENAME__"; see [Type].
// FIFOs and sockets are metadata alone. A hard link stands for a regular file
// that came before it and has no metadata of its own.
//
// # Goodbye table
//
// One line of 24 bytes for each child and one for the directory:
//
//	child      hash of the name ([NameHash]), start of the GOODBYE item minus
//	           start of the child's FILENAME item, size of the child up to its end
//	directory  a fixed hash, start of the GOODBYE item minus start of the
//	           directory's ENTRY, full size of the GOODBYE item
//
// Children are ordered as a complete binary search tree by hash: the children
// of slot i are 2i+1 (smaller) and 2i+2. Two quirks of version 2: the root's
// line leads to offset 0, that is to FORMAT_VERSION; and the size of a file whose
// content was written, not referred to, is too large by its content.
//
// # Payload stream
//
//	START_MARKER { PAYLOAD item | padding }* TAIL_MARKER
//
// Padding is what was reused of older streams around the files that were
// wanted; so the stream is read only where references lead.
//
// # Limits
//
// Names, symbolic links' targets and hard links' paths have 1 to 4096 bytes,
// extended attributes' names 1 to 255, an XATTR or FCAPS item 65791. These are
// the format's. Ours, against hostile archives: attributes of one entry
// [MaxAttributes], prelude [MaxPrelude], directories in each other [MaxDepth].
// All are checked before memory is taken.
//
// # Memory
//
// [Writer]: 24 bytes for each child so far of the directories that are open,
// with an upper limit that can be set, and a copy buffer. [Reader]: a buffer of
// 128 KiB (more only for one entry's attributes) and the names of the open
// directories. [Archive]: nothing for each entry; a [Dir] holds at most 64 KiB
// of its table, a listing one buffer of at most 128 KiB. Names are bytes in a string
// and not interpreted.
//
// # Errors
//
// Bytes that are no archive give an error wrapping [ErrFormat]; so does an
// archive that is cut short. Of a goodbye table that is wrong only who needs it
// gets one, see [Reader.Flaws]. What a Writer is asked and the format cannot hold
// wraps [ErrInvalid], and then nothing of that entry has been written. Errors of
// the readers and writers beneath come back wrapped and are neither.
//
// # Source
//
// proxmox/pxar 1.0.0: src/format, src/encoder, src/decoder, src/accessor.
package pxar

import "errors"

// ErrFormat is wrapped when bytes are not a pxar archive.
var ErrFormat = errors.New("not a valid pxar archive")

// ErrInvalid is wrapped when the format has no place for what a Writer is
// asked to write. The Writer is as it was before.
var ErrInvalid = errors.New("cannot be archived")

// Limits of the format, in bytes.
const (
	MaxName      = 4096  // of a file name and of links' targets
	MaxXattrName = 255   // of an extended attribute
	MaxXattr     = 65791 // of its name, a NUL and its value; also of file capabilities
)

// Limits of this package.
const (
	MaxAttributes = 32 << 20 // bytes of the attribute items of one entry
	MaxPrelude    = 16 << 20 // bytes
	MaxDepth      = 8192     // directories in each other, the root not counted
)

// Type is the type of an item: the [NameHash] of a text.
type Type uint64

// The types, and the text between "__PROXMOX_FORMAT_" and "__" that each is
// the hash of.
const (
	TypeVersion         Type = 0x730f6c75df16a40d // VERSION
	TypePrelude         Type = 0xe309d79d9f7b771b // PRELUDE
	TypeEntry           Type = 0xd5956474e588acef // ENTRY_V2
	TypeEntryV1         Type = 0x11da850a1c1cceff // ENTRY
	TypeFilename        Type = 0x16701121063917b3 // FILENAME
	TypeSymlink         Type = 0x27f971e7dbf5dc5f // SYMLINK
	TypeHardlink        Type = 0x51269c8422bd7275 // HARDLINK
	TypeDevice          Type = 0x9fc9e906586d5ce9 // DEVICE
	TypeXattr           Type = 0x0dab0229b57dcd03 // XATTR
	TypeACLUser         Type = 0x2ce8540a457d55b8 // ACL_USER
	TypeACLGroup        Type = 0x136e3eceb04c03ab // ACL_GROUP
	TypeACLGroupObj     Type = 0x10868031e9582876 // ACL_GROUP_OBJ
	TypeACLDefault      Type = 0xbbbb13415a6896f5 // ACL_DEFAULT
	TypeACLDefaultUser  Type = 0xc89357b40532cd1f // ACL_DEFAULT_USER
	TypeACLDefaultGroup Type = 0xf90a8a5816038ffe // ACL_DEFAULT_GROUP
	TypeFCaps           Type = 0x2da9dd9db5f7fb67 // FCAPS
	TypeQuotaProjectID  Type = 0xe07540e82f7d1cbb // QUOTA_PROJID
	TypePayload         Type = 0x28147a1b0b7c1a25 // PXAR_PAYLOAD
	TypePayloadRef      Type = 0x419d3d6bc4ba977e // PXAR_PAYLOAD_REF
	TypeGoodbye         Type = 0x2fec4fa642d5731d // GOODBYE
	TypePayloadStart    Type = 0x834c68c2194a4ed2 // PXAR_PAYLOAD_START_MARKER
	TypePayloadTail     Type = 0x6c72b78b984c81b5 // PXAR_PAYLOAD_TAIL_MARKER
)

// goodbyeTail is the hash in the directory's line of a goodbye table, that of
// PXAR_GOODBYE_TAIL_MARKER.
const goodbyeTail = 0xef5eed5b753e1555

// Sizes of items and contents, in bytes.
const (
	HeaderSize     = 16
	statSize       = 40
	statV1Size     = 32
	lineSize       = 24 // of a goodbye table
	minGoodbye     = HeaderSize + lineSize
	minHardlink    = 8 + 1 + 1
	minDirectory   = HeaderSize + statSize + minGoodbye
	versionSize    = HeaderSize + 8
	payloadRefSize = 16
)

var typeNames = map[Type]string{
	TypeVersion: "FORMAT_VERSION", TypePrelude: "PRELUDE", TypeEntry: "ENTRY", TypeEntryV1: "ENTRY_V1",
	TypeFilename: "FILENAME", TypeSymlink: "SYMLINK", TypeHardlink: "HARDLINK", TypeDevice: "DEVICE",
	TypeXattr: "XATTR", TypeACLUser: "ACL_USER", TypeACLGroup: "ACL_GROUP", TypeACLGroupObj: "ACL_GROUP_OBJ",
	TypeACLDefault: "ACL_DEFAULT", TypeACLDefaultUser: "ACL_DEFAULT_USER", TypeACLDefaultGroup: "ACL_DEFAULT_GROUP",
	TypeFCaps: "FCAPS", TypeQuotaProjectID: "QUOTA_PROJID", TypePayload: "PAYLOAD", TypePayloadRef: "PAYLOAD_REF",
	TypeGoodbye: "GOODBYE", TypePayloadStart: "PAYLOAD_START_MARKER", TypePayloadTail: "PAYLOAD_TAIL_MARKER",
}
