package squashfs

import (
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// prefixes are what the names of attributes begin with. In the type of an attribute,
// elsewhere says that its value is that of another.
var prefixes = []string{"user.", "trusted.", "security."}

const elsewhere = 0x100

// openAttributes reads the head of the table of attributes, if there is one.
func (f *FS) openAttributes(at uint64) error {
	if at == 1<<64-1 {
		return nil
	}
	var b [16]byte
	if at > uint64(f.img.Size()) {
		return fsread.Corrupt(layer, "the table of attributes is said to be at %d", at)
	}
	if err := fsread.ReadFull(f.img, layer, b[:], int64(at)); err != nil {
		return err
	}
	values := le.Uint64(b[:])
	if values > uint64(f.img.Size()) {
		return fsread.Corrupt(layer, "the attributes are said to be at %d", values)
	}
	f.values = int64(values)
	f.attributes = table{at: int64(at) + int64(len(b)), entries: uint64(le.Uint32(b[8:])), size: 16}
	return nil
}

// Xattrs lists the extended attributes.
func (f *FS) Xattrs(id fsread.ID) (all []fsread.Xattr, err error) {
	n, err := f.inode(id)
	if err != nil {
		return nil, err
	}
	if n.kind == fsread.Symlink && n.xattr == none {
		if n.xattr, err = f.linkXattr(n); err != nil {
			return nil, err
		}
	}
	if n.xattr == none || f.attributes.size == 0 {
		return nil, nil
	}
	if uint64(n.xattr) >= f.attributes.entries {
		return nil, fsread.Corrupt(layer, "the inode at %#x has the attributes %d of %d", id.Number, n.xattr, f.attributes.entries)
	}
	var b [16]byte
	if err := f.entry(f.attributes, uint64(n.xattr), b[:]); err != nil {
		return nil, err
	}
	c, size := f.cursor(f.values, le.Uint64(b[:])), 0
	for range le.Uint32(b[8:]) {
		a, known, err := f.attribute(&c)
		if err != nil {
			return nil, err
		}
		if size += len(a.Name) + len(a.Value); size > maxAttrs {
			return nil, fsread.Corrupt(layer, "the inode at %#x has more than %d bytes of attributes", id.Number, maxAttrs)
		}
		if known {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(x, y fsread.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return all, nil
}

// linkXattr reads what the longer form of a symbolic link has behind its target.
func (f *FS) linkXattr(n inode) (uint32, error) {
	c := f.cursor(f.inodes, n.id.Number)
	var b [4]byte
	if err := c.read(b[:2]); err != nil || le.Uint16(b[:]) == typeSymlink {
		return none, err
	}
	if err := n.rest.skip(n.size); err != nil {
		return none, err
	}
	err := n.rest.read(b[:])
	return le.Uint32(b[:]), err
}

// attribute reads one attribute; known: its name is one of those that Linux shows.
func (f *FS) attribute(c *cursor) (a fsread.Xattr, known bool, err error) {
	var b [8]byte
	if err := c.read(b[:4]); err != nil {
		return a, false, err
	}
	kind, name := le.Uint16(b[:]), make([]byte, le.Uint16(b[2:]))
	if err := c.read(name); err != nil {
		return a, false, err
	}
	if k := int(kind & 0xff); k < len(prefixes) {
		a.Name, known = prefixes[k]+string(name), !strings.ContainsRune(string(name), 0)
	}
	value, err := readValue(c)
	if err != nil || kind&elsewhere == 0 {
		a.Value = value
		return a, known, err
	}
	if len(value) != 8 {
		return a, false, fsread.Corrupt(layer, "the attribute %q is elsewhere, at a place of %d bytes", name, len(value))
	}
	other := f.cursor(f.values, le.Uint64(value))
	a.Value, err = readValue(&other)
	return a, known, err
}

func readValue(c *cursor) ([]byte, error) {
	var b [4]byte
	if err := c.read(b[:]); err != nil {
		return nil, err
	}
	n := le.Uint32(b[:])
	if n > 64<<10 { // what Linux allows
		return nil, fsread.Corrupt(layer, "an attribute has %d bytes", n)
	}
	value := make([]byte, n)
	return value, c.read(value)
}
