package ext

import (
	"bytes"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Extended attributes lie behind the fields of an inode, after a magic of four
// bytes, and in a block, after a head of 32 bytes: the same magic, references (4),
// blocks (4), hash (4), checksum (4). An entry:
//
//	offset  size
//	0       1     length of the name
//	1       1     prefix of the name, as a number
//	2       2     where the value is, from the first entry, or from the start of the block
//	4       4     inode that holds the value; 0: it is here
//	8       4     length of the value
//	12      4     hash
//	16            name, and bytes up to a multiple of 4
//
// Four zeros follow the last one.
const (
	attrMagic     = 0xea020000
	attrHead      = 32
	attrEntryHead = 16
	maxValue      = 64 << 10 // that a system call can give
	maxXattrs     = 16 << 20 // bytes of values that a file may have

	prefixACL        = 2
	prefixDefaultACL = 3
	prefixSystem     = 7
)

// prefixes of names that Linux shows.
var prefixes = map[byte]string{
	1: "user.", prefixACL: "system.posix_acl_access", prefixDefaultACL: "system.posix_acl_default",
	4: "trusted.", 6: "security.",
}

// attribute is an entry. Its bytes are shared.
type attribute struct {
	prefix byte
	name   []byte
	inode  uint32 // that has the value, or 0
	size   uint32
	value  []byte
}

// Xattrs lists the extended attributes of a file.
func (f *FS) Xattrs(id fsread.ID) ([]fsread.Xattr, error) {
	n, err := f.used(id)
	if err != nil {
		return nil, err
	}
	var all []fsread.Xattr
	total := 0
	err = f.attributes(n, func(a attribute) error {
		prefix, ok := prefixes[a.prefix]
		if !ok {
			return nil
		}
		if total += int(a.size); total > maxXattrs {
			return fsread.Unsupported(layer, "inode %d: more than %d bytes of extended attributes", n.num, maxXattrs)
		}
		x := fsread.Xattr{Name: prefix + string(a.name)}
		switch {
		case strings.Contains(x.Name, "\x00"):
			return fsread.Corrupt(layer, "inode %d: an extended attribute with the name %q", n.num, x.Name)
		case a.prefix == prefixACL || a.prefix == prefixDefaultACL:
			x.Name = prefix
			x.Value, err = f.acl(n, a)
		case a.inode != 0:
			x.Value, err = f.valueOf(n, a)
		default:
			x.Value = bytes.Clone(a.value)
		}
		all = append(all, x)
		return err
	})
	if err != nil {
		return nil, err
	}
	byName := func(a, b fsread.Xattr) int { return strings.Compare(a.Name, b.Name) }
	slices.SortStableFunc(all, byName)
	// What the inode says comes first and counts.
	return slices.CompactFunc(all, func(a, b fsread.Xattr) bool { return a.Name == b.Name }), nil
}

// attributes calls fn for the entries in the inode and in its block.
func (f *FS) attributes(n *inode, fn func(attribute) error) error {
	if err := n.attributes(fn); err != nil {
		return err
	}
	at := uint64(le.Uint32(n.raw[sizeHigh-4:]))
	if f.sb.incompat&incompat64bit != 0 {
		at |= uint64(le.Uint16(n.raw[0x76:])) << 32
	}
	if at == 0 {
		return nil
	}
	b, err := f.disk.block(at)
	if err != nil {
		return err
	}
	if le.Uint32(b) != attrMagic || le.Uint32(b[8:]) != 1 {
		return fsread.Corrupt(layer, "inode %d: block %d has no extended attributes", n.num, at)
	}
	if f.sb.checksums() {
		seed := crc32c(f.sb.seed, le.AppendUint64(nil, at))
		if crc32cWithout(seed, b, 0x10, 4) != le.Uint32(b[0x10:]) {
			return fsread.Corrupt(layer, "inode %d: the checksum of its extended attributes is wrong", n.num)
		}
	}
	return n.list(b[attrHead:], b, fn)
}

// attributes calls fn for the entries in the inode itself.
func (n *inode) attributes(fn func(attribute) error) error {
	if n.base == inodeBase || len(n.raw)-n.base < 4 || le.Uint32(n.raw[n.base:]) != attrMagic {
		return nil
	}
	b := n.raw[n.base+4:]
	return n.list(b, b, fn)
}

// list goes through entries whose values are counted from the start of base.
func (n *inode) list(b, base []byte, fn func(attribute) error) error {
	for {
		if len(b) < 4 {
			return fsread.Corrupt(layer, "inode %d: extended attributes without an end", n.num)
		}
		if le.Uint32(b) == 0 {
			return nil
		}
		end := (attrEntryHead + int(b[0]) + 3) &^ 3
		if end > len(b) {
			return fsread.Corrupt(layer, "inode %d: the name of an extended attribute goes beyond its place", n.num)
		}
		a := attribute{prefix: b[1], name: b[attrEntryHead:][:b[0]], inode: le.Uint32(b[4:]), size: le.Uint32(b[8:])}
		off := int(le.Uint16(b[2:]))
		switch {
		case a.size > maxValue:
			return fsread.Corrupt(layer, "inode %d: an extended attribute of %d bytes", n.num, a.size)
		case a.inode == 0 && a.size > 0 && off+int(a.size) > len(base):
			return fsread.Corrupt(layer, "inode %d: the value of an extended attribute goes beyond its place", n.num)
		case a.inode == 0 && a.size > 0:
			a.value = base[off:][:a.size]
		}
		if err := fn(a); err != nil {
			return err
		}
		b = b[end:]
	}
}

// valueOf reads a value that has an inode of its own. That has the value's
// checksum as its access time, or, if Lustre made it, its owner as the time of its change.
func (f *FS) valueOf(n *inode, a attribute) ([]byte, error) {
	v, err := f.inode(a.inode)
	if err != nil {
		return nil, err
	}
	if f.sb.incompat&incompatEAInode == 0 || v.flags&flagEAInode == 0 || v.flags&(flagInline|flagEncrypt) != 0 || v.size != int64(a.size) {
		return nil, fsread.Corrupt(layer, "inode %d: the value of an extended attribute is not in inode %d", n.num, v.num)
	}
	b := make([]byte, v.size)
	if err := fsread.ReadFull(f.blocksOf(v), layer, b, 0); err != nil {
		return nil, err
	}
	lustre := le.Uint32(v.raw[0x10:]) == n.num && v.generation == n.generation
	if crc32c(f.sb.seed, b) != le.Uint32(v.raw[8:]) && !lustre {
		return nil, fsread.Corrupt(layer, "inode %d: the checksum of the extended attribute in inode %d is wrong", n.num, v.num)
	}
	return b, nil
}

// inlineRest is the part of inline data that has no room in the place of the
// block numbers.
func (f *FS) inlineRest(n *inode) ([]byte, error) {
	var rest []byte
	found := false
	err := n.attributes(func(a attribute) error {
		if a.prefix == prefixSystem && string(a.name) == "data" && a.inode == 0 {
			rest, found = a.value, true
		}
		return nil
	})
	if err == nil && !found {
		err = fsread.Corrupt(layer, "inode %d: it has no inline data", n.num)
	}
	return rest, err
}
