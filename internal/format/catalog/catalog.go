// Package catalog reads and writes a catalog, "catalog.pcat1": the names, sizes
// and times of all files in the archives of a snapshot, for browsing without
// reading the archives. It is stored as the archive "catalog.pcat1.didx", cut at
// an average of 512 KiB.
//
// Split archives (".mpxar") take the place of a catalog, and snapshots with them
// have none.
//
// # Layout
//
//	file  = magic block* start     magic: 91 fd 60 f9 c4 67 58 d5
//	                               start: of the root's block, 8 bytes, little-endian
//	block = varint(length of table) table
//	table = varint(entries) entry*
//	entry = kind(1 byte) varint(length of name) name [detail]
//
// One block is one directory. Its start is the position of its first byte.
// Children come before their parents and the root's block is the last.
//
//	kind         detail
//	d            varint: start of this block - start of the child's block
//	f            varint size in bytes, signed varint mtime in seconds since 1970
//	l h b c p s  none: symlink, hard link, block and character device, fifo, socket
//
// Entries stay in the order of the archive. The root holds one directory per
// archive, named like its index ("root.pxar.didx"). Names have 1 to 4095 bytes of
// any value but "/" and NUL, and are neither "." nor "..". Some programs leave an
// entry with an empty name for what vanished while they looked: it is passed over.
//
// A varint has 7 bits a byte, the lowest first, and bit 7 set in all bytes but
// the last: at most 10 bytes. A signed one is the same for v >= 0; for v < 0 it is
// the bits of -v with bit 7 set in every byte, and a byte 00: at most 11 bytes.
//
// # Memory
//
// The writer keeps the entries of the directories that are open, from the root to
// the current one, about 20 bytes and the name each. The reader keeps nothing but
// 256 KiB for the time of an operation, and one path while it walks.
//
// # Trust
//
// Nothing in a catalog is authenticated by itself, so the reader takes no length
// or count for granted. A child's block lies wholly before that of its parent,
// which excludes loops; a walk ends with an error when it has read more bytes than
// the file has, which excludes directories that are reached again and again; and
// paths have at most [MaxPath] bytes, which bounds the depth.
//
// # Errors
//
// Bytes that are no catalog give an error wrapping [ErrFormat]; errors of the
// reader come back wrapped and are never ErrFormat. A path that is not there
// gives an error wrapping [fs.ErrNotExist]. Names that the writer refuses give
// [ErrName].
//
// # Source
//
// proxmox-backup: pbs-datastore/src/catalog.rs.
package catalog

import (
	"errors"
	"fmt"
	"strings"
)

// ErrFormat is wrapped when bytes are not a catalog.
var ErrFormat = errors.New("not a valid catalog")

// ErrName is wrapped when a name cannot be in a catalog.
var ErrName = errors.New("not a name for a catalog")

// magic is the start of SHA-256("Proxmox Backup Catalog file v1.0").
var magic = [8]byte{0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5}

const (
	pointerSize = 8    // at the end of the file
	maxName     = 4095 // bytes
)

// MaxPath is the length of the longest path that a walk goes down to, in bytes.
const MaxPath = 1 << 20

// Kind is what an entry is.
type Kind byte

// The kinds of entries, with the bytes that stand for them.
const (
	Dir         Kind = 'd'
	File        Kind = 'f'
	Symlink     Kind = 'l'
	Hardlink    Kind = 'h'
	BlockDevice Kind = 'b'
	CharDevice  Kind = 'c'
	Fifo        Kind = 'p'
	Socket      Kind = 's'
)

// plain reports whether an entry of this kind is nothing but its name.
func (k Kind) plain() bool {
	return strings.IndexByte("lhbcps", byte(k)) >= 0
}

func (k Kind) String() string {
	switch k {
	case Dir:
		return "directory"
	case File:
		return "file"
	case Symlink:
		return "symlink"
	case Hardlink:
		return "hard link"
	case BlockDevice:
		return "block device"
	case CharDevice:
		return "character device"
	case Fifo:
		return "fifo"
	case Socket:
		return "socket"
	}
	return fmt.Sprintf("unknown kind %#02x", byte(k))
}

func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return errors.New("a name is empty")
	case len(name) > maxName:
		return fmt.Errorf("a name has %d bytes, at most %d are possible", len(name), maxName)
	case string(name) == "." || string(name) == "..":
		return fmt.Errorf("a name is %q", name)
	}
	for _, b := range name {
		if b == '/' || b == 0 {
			return fmt.Errorf("the name %.80q holds a byte %#02x", name, b)
		}
	}
	return nil
}
