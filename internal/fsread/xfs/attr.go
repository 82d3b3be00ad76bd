package xfs

import (
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Flags of attributes.
const (
	attrLocal      = 0x01
	attrRoot       = 0x02
	attrSecure     = 0x04
	attrParent     = 0x08
	attrIncomplete = 0x80

	maxValue = 64 << 10
	maxAttrs = 16 << 20
)

// attrs collects the attributes of one file.
type attrs struct {
	fs   *FS
	n    *inode
	m    *mapping
	all  []fsread.Xattr
	size int
}

// Xattrs lists the extended attributes.
func (f *FS) Xattrs(id fsread.ID) ([]fsread.Xattr, error) {
	n, err := f.load(id.Number)
	if err != nil || len(n.attr.raw) == 0 {
		return nil, err
	}
	a := attrs{fs: f, n: n}
	if n.attr.format == formatLocal {
		err = a.short()
	} else if n.attr.extents > 0 || n.attr.format == formatBtree {
		if a.m, err = f.mapping(n, &n.attr); err == nil {
			err = a.tree()
		}
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(a.all, func(x, y fsread.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return a.all, nil
}

func (a *attrs) bad(what string) error {
	return fsread.Corrupt(layer, "inode %d: %s of its attributes does not fit into itself", a.n.number, what)
}

// add keeps an attribute under the name that Linux shows.
func (a *attrs) add(flags byte, name string, value []byte) error {
	if flags&(attrIncomplete|attrParent) != 0 {
		return nil
	}
	if a.size += len(name) + len(value) + 64; a.size > maxAttrs {
		return fsread.Corrupt(layer, "inode %d has more than %d bytes of attributes", a.n.number, maxAttrs)
	}
	prefix := "user."
	switch {
	case flags&attrRoot != 0:
		prefix = "trusted."
		if err := a.acl(name, value); err != nil {
			return err
		}
	case flags&attrSecure != 0:
		prefix = "security."
	}
	a.all = append(a.all, fsread.Xattr{Name: prefix + name, Value: slices.Clone(value)})
	return nil
}

// acl adds an ACL in the form of the system call, beside the one in which it is
// stored.
func (a *attrs) acl(name string, value []byte) error {
	shown := map[string]string{"SGI_ACL_FILE": "system.posix_acl_access", "SGI_ACL_DEFAULT": "system.posix_acl_default"}[name]
	if shown == "" {
		return nil
	}
	if len(value) < 4 || int64(be.Uint32(value))*12 != int64(len(value)-4) {
		return a.bad("an ACL")
	}
	out := []byte{2, 0, 0, 0}
	for b := value[4:]; len(b) > 0; b = b[12:] {
		tag, id := be.Uint32(b), be.Uint32(b[4:])
		if tag != 0x02 && tag != 0x08 {
			id = 0xffffffff
		}
		out = le.AppendUint16(out, uint16(tag))
		out = le.AppendUint16(out, be.Uint16(b[8:]))
		out = le.AppendUint32(out, id)
	}
	a.all = append(a.all, fsread.Xattr{Name: shown, Value: out})
	return nil
}

// short reads attributes that lie in the inode.
func (a *attrs) short() error {
	b := a.n.attr.raw
	if len(b) < 4 || int(be.Uint16(b)) > len(b) || be.Uint16(b) < 4 {
		return a.bad("the list")
	}
	count := int(b[2])
	for b = b[4:be.Uint16(b)]; count > 0; count-- {
		if len(b) < 3 || len(b) < 3+int(b[0])+int(b[1]) {
			return a.bad("the list")
		}
		name, value := string(b[3:3+int(b[0])]), b[3+int(b[0]):3+int(b[0])+int(b[1])]
		if err := a.add(b[2], name, value); err != nil {
			return err
		}
		b = b[3+len(name)+len(value):]
	}
	return nil
}

// block reads one block of the tree of attributes; see [attrs.tree] for magics.
func (a *attrs) block(block uint64) (b []byte, magic uint16, err error) {
	b = make([]byte, a.fs.block)
	found, err := a.m.blockRead(b, block)
	if err != nil {
		return nil, 0, err
	}
	if found == absent {
		return nil, 0, fsread.Corrupt(layer, "inode %d has no block %d of attributes", a.n.number, block)
	}
	if a.fs.v5 && (found == stored && !checksum(b, 12) || !a.fs.owner(b, 48, a.n)) {
		return nil, 0, fsread.Corrupt(layer, "inode %d: the checksum or owner of block %d of its attributes is wrong", a.n.number, block)
	}
	return b, be.Uint16(b[8:]), nil
}

// tree reads the leaves of the tree, from the first one on.
func (a *attrs) tree() error {
	node, leaf, at := uint16(0xfebe), uint16(0xfbee), 12
	if a.fs.v5 {
		node, leaf, at = 0x3ebe, 0x3bee, 56
	}
	block, seen := uint64(0), map[uint64]bool{}
	b, magic, err := a.block(block)
	for level := 0; err == nil && magic == node; level++ {
		if be.Uint16(b[at:]) == 0 || level > maxLevels {
			return a.bad("a node")
		}
		entries := at + 4
		if a.fs.v5 {
			entries += 4
		}
		block = uint64(be.Uint32(b[entries+4:]))
		b, magic, err = a.block(block)
	}
	for err == nil {
		if magic != leaf || seen[block] {
			return a.bad("a leaf")
		}
		seen[block] = true
		if err := a.leaf(b, at); err != nil {
			return err
		}
		if block = uint64(be.Uint32(b)); block == 0 {
			return nil
		}
		b, magic, err = a.block(block)
	}
	return err
}

// leaf reads one leaf, whose own header begins at at.
func (a *attrs) leaf(b []byte, at int) error {
	count, entries := int(be.Uint16(b[at:])), 32
	if a.fs.v5 {
		entries = 80
	}
	if entries+8*count > len(b) {
		return a.bad("a leaf")
	}
	for e := b[entries : entries+8*count]; len(e) > 0; e = e[8:] {
		n, flags := b[min(int(be.Uint16(e[4:])), len(b)):], e[6]
		if flags&attrLocal != 0 {
			if len(n) < 3 || len(n) < 3+int(n[2])+int(be.Uint16(n)) {
				return a.bad("an entry")
			}
			end := 3 + int(n[2])
			if err := a.add(flags, string(n[3:end]), n[end:end+int(be.Uint16(n))]); err != nil {
				return err
			}
			continue
		}
		if len(n) < 9 || len(n) < 9+int(n[8]) {
			return a.bad("an entry")
		}
		if flags&(attrIncomplete|attrParent) != 0 {
			continue
		}
		value, err := a.remote(uint64(be.Uint32(n)), int64(be.Uint32(n[4:])))
		if err != nil {
			return err
		}
		if err := a.add(flags, string(n[9:9+int(n[8])]), value); err != nil {
			return err
		}
	}
	return nil
}

// remote reads a value that lies in blocks of its own, with a header in each from
// version 5 on.
func (a *attrs) remote(block uint64, size int64) ([]byte, error) {
	if size > maxValue {
		return nil, a.bad("a value")
	}
	var value []byte
	b := make([]byte, a.fs.block)
	for ; int64(len(value)) < size; block++ {
		found, err := a.m.blockRead(b, block)
		if err != nil {
			return nil, err
		}
		if found == absent {
			return nil, a.bad("a value")
		}
		part := b
		if a.fs.v5 {
			n := int64(be.Uint32(b[8:]))
			if string(b[:4]) != "XARM" || found == stored && !checksum(b, 12) || n > int64(len(b)-56) || n == 0 || int64(be.Uint32(b[4:])) != int64(len(value)) {
				return nil, a.bad("a value")
			}
			part = b[56 : 56+n]
		}
		value = append(value, part[:min(int64(len(part)), size-int64(len(value)))]...)
	}
	return value, nil
}
