package btrfs

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// replay applies the log of one subvolume, in the order in which Linux does it: inodes with
// what they have lost, names of directories, and then references, attributes and extents.
// What it does for each item takes no longer the more there are.
type replay struct {
	f       *FS
	base    root
	log     []item
	told    map[tie]bool  // names, attributes and references that the log has
	seen    map[pair]bool // files and directories whose old references were looked at
	objects map[uint64]*object
	room    int
}

// tie is a name of an item: in a directory at an index, of an attribute, or a reference from
// a file to a name in a directory.
type tie struct {
	object uint64
	kind   byte
	other  uint64
	name   string
}

type pair struct{ object, parent uint64 }

// index notes what the log has.
func (l *replay) index() error {
	l.told, l.seen = map[tie]bool{}, map[pair]bool{}
	for _, i := range l.log {
		switch i.k.kind {
		case itemDirIndex, itemXattr:
			other := i.k.offset
			if i.k.kind == itemXattr {
				other = 0
			}
			err := entries(i.data, func(e entry) error {
				l.told[tie{i.k.object, i.k.kind, other, e.name}] = true
				return nil
			})
			if err != nil {
				return err
			}
		case itemRef, itemRefLong:
			all, err := parseRefs(i)
			if err != nil {
				return err
			}
			for _, r := range all {
				l.told[tie{i.k.object, itemRef, r.parent, r.name}] = true
			}
		}
	}
	return nil
}

func (l *replay) apply() error {
	if err := l.index(); err != nil {
		return err
	}
	ignored := map[uint64]bool{} // files without a name
	for _, i := range l.log {
		if i.k.kind != itemInode {
			continue
		}
		if len(i.data) < inodeSize {
			return fsread.Corrupt(layer, "inode %d of the log has %d bytes", i.k.object, len(i.data))
		}
		if le.Uint32(i.data[40:]) == 0 {
			ignored[i.k.object] = true
			continue
		}
		if err := l.inode(i); err != nil {
			return err
		}
	}
	l.log = slices.DeleteFunc(l.log, func(i item) bool { return ignored[i.k.object] })
	for _, i := range l.log {
		if i.k.kind == itemDirIndex {
			if err := l.names(i); err != nil {
				return err
			}
		}
	}
	for n, i := range l.log {
		var err error
		switch {
		case i.k.kind == itemRef || i.k.kind == itemRefLong:
			err = l.refs(i)
		case i.k.kind == itemXattr:
			err = l.xattr(i)
		case i.k.kind == itemExtent && (n == 0 || l.log[n-1].k.object != i.k.object || l.log[n-1].k.kind != itemExtent):
			err = l.extents(i.k.object)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logged finds the items of an object and kind in the log.
func (l *replay) logged(object uint64, kind byte) []item {
	search := func(k key) int {
		n, _ := slices.BinarySearchFunc(l.log, k, func(i item, k key) int { return i.k.compare(k) })
		return n
	}
	return l.log[search(key{object, kind, 0}):search(key{object, kind + 1, 0})]
}

// present is an object that must be there.
func (l *replay) present(number uint64) (*object, error) {
	o, err := l.object(number)
	if err == nil && o.inode == nil {
		err = fsread.Corrupt(layer, "the log has an item of inode %d, which is not there", number)
	}
	return o, err
}

// inode applies an inode: what it has no more in the log goes, the names of directories in the
// ranges that the log knows all of.
func (l *replay) inode(i item) error {
	o, err := l.object(i.k.object)
	if err != nil {
		return err
	}
	for name := range o.xattrs {
		if !l.told[tie{o.number, itemXattr, 0, name}] {
			delete(o.xattrs, name)
		}
	}
	if o.inode != nil && o.directory() {
		if err := l.dropNames(o); err != nil {
			return err
		}
	}
	o.overwrite(i.data)
	if kinds[le.Uint32(o.inode[52:])&0o170000] != fsread.Regular {
		return nil
	}
	size := le.Uint64(o.inode[16:])
	if size > 1<<62 {
		return fsread.Corrupt(layer, "inode %d of the log has %d bytes", o.number, size)
	}
	sector := uint64(l.f.sector)
	return o.replace([]span{{(size + sector - 1) / sector * sector, 1 << 63}}, l.f.sector)
}

// overwrite puts an inode of the log in place. One of generation 0 says only that the file is
// there, and how long it was.
func (o *object) overwrite(b []byte) {
	regular := func(b []byte) bool { return kinds[le.Uint32(b[52:])&0o170000] == fsread.Regular }
	switch {
	case o.inode == nil || le.Uint64(b) != 0:
		o.inode = bytes.Clone(b)
	case regular(b) && regular(o.inode) && le.Uint64(b[16:]) != 0:
		copy(o.inode[16:24], b[16:24])
	}
}

// dropNames takes the names out of a directory that the log would have, and has not.
func (l *replay) dropNames(o *object) error {
	var known []span // in order, without a common index
	for _, r := range l.logged(o.number, itemDirRange) {
		if len(r.data) < 8 {
			return fsread.Corrupt(layer, "the log knows the names of directory %d up to nowhere", o.number)
		}
		end := le.Uint64(r.data)
		if n := len(known) - 1; n >= 0 && r.k.offset <= known[n].end {
			known[n].end = max(known[n].end, end)
		} else {
			known = append(known, span{r.k.offset, end})
		}
	}
	for index, e := range o.names {
		n, found := slices.BinarySearchFunc(known, index, func(s span, index uint64) int { return cmp.Compare(s.start, index) })
		if !found {
			n--
		}
		if n < 0 || index > known[n].end || l.told[tie{o.number, itemDirIndex, index, e.name}] {
			continue
		}
		if err := l.unlink(o, index); err != nil {
			return err
		}
	}
	return nil
}

// unlink takes a name out of a directory, and the reference to it from its file.
func (l *replay) unlink(dir *object, index uint64) error {
	e := dir.names[index]
	dir.remove(index)
	if e.to.kind != itemInode {
		return nil
	}
	o, err := l.object(e.to.object)
	if err != nil {
		return err
	}
	delete(o.refs, place{dir.number, e.name})
	return nil
}

// names applies a name of a directory that the log has.
func (l *replay) names(i item) error {
	dir, err := l.present(i.k.object)
	if err != nil {
		return err
	}
	return entries(i.data, func(e entry) error {
		exists, err := l.exists(e.to)
		if err != nil {
			return err
		}
		if old, ok := dir.byName[e.name]; ok {
			at := dir.names[old]
			switch {
			case at.to == e.to && at.kind == e.kind && old == i.k.offset:
				return nil
			case (at.to != e.to || at.kind != e.kind) && exists:
				if err := l.unlink(dir, old); err != nil {
					return err
				}
			}
		}
		_, taken := dir.byName[e.name]
		_, used := dir.names[i.k.offset]
		if !exists || taken || used || l.told[tie{e.to.object, itemRef, dir.number, e.name}] {
			return nil // it cannot be, or its reference adds it
		}
		o, err := l.object(e.to.object)
		if err != nil {
			return err
		}
		dir.add(i.k.offset, named{name: e.name, to: e.to, kind: e.kind})
		o.refs[place{dir.number, e.name}] = ref{parent: dir.number, name: e.name, index: i.k.offset}
		return nil
	})
}

// exists reports whether an inode is there. Subvolumes are none.
func (l *replay) exists(k key) (bool, error) {
	if k.kind != itemInode {
		return false, nil
	}
	if o := l.objects[k.object]; o != nil {
		return o.inode != nil, nil
	}
	b, err := l.f.find(l.base, key{object: k.object, kind: itemInode})
	return b != nil, err
}

// refs applies the references of a file to its names: they are in the directories, and what
// was there in their place is not.
func (l *replay) refs(i item) error {
	o, err := l.present(i.k.object)
	if err != nil {
		return err
	}
	all, err := parseRefs(i)
	if err != nil {
		return err
	}
	for _, r := range all {
		there, err := l.exists(key{object: r.parent, kind: itemInode})
		if err != nil || !there {
			return err // a directory that was not written to the log
		}
		if err := l.ref(o, r); err != nil {
			return err
		}
	}
	for _, r := range all {
		if err := l.dropOld(o, r.parent); err != nil {
			return err
		}
		o.refs[place{r.parent, r.name}] = r
	}
	return nil
}

// ref sees to one name of a file.
func (l *replay) ref(o *object, r ref) error {
	dir, err := l.object(r.parent)
	if err != nil {
		return err
	}
	to := key{object: o.number, kind: itemInode}
	old, taken := dir.byName[r.name]
	if taken && old == r.index && dir.names[old].to == to {
		return nil
	}
	if err := l.dropOld(o, r.parent); err != nil {
		return err
	}
	if taken {
		if _, still := dir.names[old]; still && dir.names[old].name == r.name {
			if err := l.unlink(dir, old); err != nil {
				return err
			}
		}
	}
	if e, used := dir.names[r.index]; used {
		return fsread.Unsupported(layer, "a log in which %q takes the index of %q in directory %d", r.name, e.name, dir.number)
	}
	dir.add(r.index, named{name: r.name, to: to, kind: o.entryKind()})
	return nil
}

// dropOld takes the names of a file out of a directory that the log does not have.
func (l *replay) dropOld(o *object, parent uint64) error {
	if l.seen[pair{o.number, parent}] {
		return nil
	}
	l.seen[pair{o.number, parent}] = true
	for at := range o.refs {
		if at.parent != parent || l.told[tie{o.number, itemRef, parent, at.name}] {
			continue
		}
		dir, err := l.object(parent)
		if err != nil {
			return err
		}
		delete(o.refs, at)
		if n, ok := dir.byName[at.name]; ok && dir.names[n].to == (key{object: o.number, kind: itemInode}) {
			dir.remove(n)
		}
	}
	return nil
}

// xattr applies attributes.
func (l *replay) xattr(i item) error {
	o, err := l.present(i.k.object)
	if err != nil {
		return err
	}
	return o.setXattrs(i)
}

// extents applies those of a file, which are in order.
func (l *replay) extents(number uint64) error {
	o, err := l.present(number)
	if err != nil {
		return err
	}
	all := l.logged(number, itemExtent)
	var spans []span
	for _, x := range all {
		end, _, ok := extentEnd(x, l.f.sector)
		if n := len(spans) - 1; !ok || n >= 0 && x.k.offset < spans[n].end {
			return fsread.Corrupt(layer, "inode %d of the log has an extent at %d that makes no sense", number, x.k.offset)
		}
		spans = append(spans, span{x.k.offset, end})
	}
	if err := o.replace(spans, l.f.sector); err != nil {
		return err
	}
	for _, x := range all {
		o.extents = append(o.extents, item{x.k, bytes.Clone(x.data)})
	}
	slices.SortFunc(o.extents, func(a, b item) int { return cmp.Compare(a.k.offset, b.k.offset) })
	return nil
}
