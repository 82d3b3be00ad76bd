package squashfs

import (
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Types of inodes: those that are short, and longer ones with the same order.
const (
	typeDir     = 1
	typeFile    = 2
	typeSymlink = 3
	typeBlock   = 4
	typeChar    = 5
	typeFIFO    = 6
	typeSocket  = 7
	longer      = 7
)

var kinds = []fsread.Kind{
	fsread.Unknown, fsread.Directory, fsread.Regular, fsread.Symlink, fsread.BlockDevice, fsread.CharDevice, fsread.FIFO, fsread.Socket,
}

// headSize and lengths are what all inodes begin with, and what follows in each type.
const headSize = 16

var lengths = []int{0, 16, 16, 8, 8, 8, 4, 4, 24, 40, 8, 12, 12, 8, 8}

// inode is an inode, as far as its length is fixed.
type inode struct {
	id       fsread.ID
	kind     fsread.Kind
	mode     uint32
	owners   [2]uint16
	modified uint32
	links    uint32
	size     int64
	rdev     uint32
	start    int64  // of a directory's block, counted from the table; of contents
	offset   uint32 // in that block; in the fragment
	fragment uint32
	xattr    uint32
	index    uint32 // entries of a directory's index
	rest     cursor // what follows
}

func (f *FS) inode(id fsread.ID) (inode, error) {
	n := inode{id: id, fragment: none, xattr: none, rest: f.cursor(f.inodes, id.Number)}
	bad := func(what string, args ...any) (inode, error) {
		return inode{}, fsread.Corrupt(layer, "the inode at %#x "+what, append([]any{id.Number}, args...)...)
	}
	if id.Number >= 1<<62 {
		return bad("lies nowhere")
	}
	var b [40]byte
	if err := n.rest.read(b[:headSize]); err != nil {
		return inode{}, err
	}
	kind := int(le.Uint16(b[:]))
	if kind == 0 || kind >= len(lengths) {
		return bad("is of type %d", kind)
	}
	short := kind
	if short > longer {
		short -= longer
	}
	n.kind, n.mode = kinds[short], uint32(le.Uint16(b[2:]))&0o7777
	n.owners = [2]uint16{le.Uint16(b[4:]), le.Uint16(b[6:])}
	n.modified = le.Uint32(b[8:])
	p := b[:lengths[kind]]
	if err := n.rest.read(p); err != nil {
		return inode{}, err
	}
	u32 := func(off int) uint32 { return le.Uint32(p[off:]) }
	switch kind {
	case typeDir:
		n.start, n.links, n.size, n.offset = int64(u32(0)), u32(4), int64(le.Uint16(p[8:])), uint32(le.Uint16(p[10:]))
	case typeDir + longer:
		n.links, n.size, n.start, n.index, n.offset, n.xattr = u32(0), int64(u32(4)), int64(u32(8)), uint32(le.Uint16(p[16:])), uint32(le.Uint16(p[18:])), u32(20)
	case typeFile:
		n.start, n.fragment, n.offset, n.size, n.links = int64(u32(0)), u32(4), u32(8), int64(u32(12)), 1
	case typeFile + longer:
		start, size := le.Uint64(p), le.Uint64(p[8:])
		if start > 1<<62 || size > 1<<62 {
			return bad("has %d bytes at %d", size, start)
		}
		n.start, n.size, n.links, n.fragment, n.offset, n.xattr = int64(start), int64(size), u32(24), u32(28), u32(32), u32(36)
	case typeSymlink, typeSymlink + longer:
		n.links, n.size = u32(0), int64(u32(4))
		if n.size < 1 || n.size > maxTarget {
			return bad("is a symbolic link to %d bytes", n.size)
		}
	case typeBlock, typeChar:
		n.links, n.rdev = u32(0), u32(4)
	case typeBlock + longer, typeChar + longer:
		n.links, n.rdev, n.xattr = u32(0), u32(4), u32(8)
	case typeFIFO, typeSocket:
		n.links = u32(0)
	default: // their longer forms
		n.links, n.xattr = u32(0), u32(4)
	}
	return n, nil
}

// Stat reads an inode.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	n, err := f.inode(id)
	if err != nil {
		return fsread.Stat{}, err
	}
	st := fsread.Stat{
		ID: id, Kind: n.kind, Mode: n.mode, Links: n.links, Size: n.size, Modified: time.Unix(int64(n.modified), 0).UTC(),
		Major: n.rdev >> 8 & 0xfff, Minor: n.rdev&0xff | n.rdev>>12&0xfff00,
	}
	if st.UID, err = f.owner(n.owners[0]); err != nil {
		return fsread.Stat{}, err
	}
	st.GID, err = f.owner(n.owners[1])
	return st, err
}

// owner is a user or group: inodes have its index.
func (f *FS) owner(i uint16) (uint32, error) {
	if uint64(i) >= f.owners.entries {
		return 0, fsread.Corrupt(layer, "an inode has the owner %d of %d", i, f.owners.entries)
	}
	var b [4]byte
	err := f.entry(f.owners, uint64(i), b[:])
	return le.Uint32(b[:]), err
}

// Readlink reads the target of a symbolic link.
func (f *FS) Readlink(id fsread.ID) (string, error) {
	n, err := f.inode(id)
	if err != nil {
		return "", err
	}
	if n.kind != fsread.Symlink {
		return "", fsread.ErrNotSymlink
	}
	b := make([]byte, n.size)
	if err := n.rest.read(b); err != nil {
		return "", err
	}
	if strings.ContainsRune(string(b), 0) {
		return "", fsread.Corrupt(layer, "the inode at %#x is a symbolic link with a NUL", id.Number)
	}
	return string(b), nil
}
