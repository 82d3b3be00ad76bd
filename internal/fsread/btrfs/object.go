package btrfs

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// object is a file or directory that the log changes, with all that it has.
type object struct {
	number  uint64
	inode   []byte // nil: it is not there
	refs    map[place]ref
	xattrs  map[string][]byte
	names   map[uint64]named // of a directory, by their index
	byName  map[string]uint64
	extents []item // in order
}

// place is a name in a directory.
type place struct {
	parent uint64
	name   string
}

// ref is a reference of a file to one of its names.
type ref struct {
	parent, index uint64
	name          string
}

// named is a name in a directory.
type named struct {
	name string
	to   key
	kind byte
}

// span is a range: of a file up to its end, or of indexes with the last one.
type span struct{ start, end uint64 }

func (o *object) add(index uint64, e named) {
	o.names[index] = e
	o.byName[e.name] = index
}

func (o *object) remove(index uint64) {
	if e, ok := o.names[index]; ok && o.byName[e.name] == index {
		delete(o.byName, e.name)
	}
	delete(o.names, index)
}

// object loads an object of the subvolume.
func (l *replay) object(number uint64) (*object, error) {
	if o := l.objects[number]; o != nil {
		return o, nil
	}
	o := &object{number: number, refs: map[place]ref{}, xattrs: map[string][]byte{}, names: map[uint64]named{}, byName: map[string]uint64{}}
	err := l.f.each(l.base, key{object: number}, func(k key, data []byte) (bool, error) {
		if k.object != number {
			return false, nil
		}
		if err := l.take(data); err != nil {
			return false, err
		}
		return true, o.load(item{k, data})
	})
	if err != nil {
		return nil, err
	}
	l.objects[number] = o
	return o, nil
}

func (o *object) load(i item) error {
	switch i.k.kind {
	case itemInode:
		if len(i.data) < inodeSize {
			return fsread.Corrupt(layer, "inode %d has %d bytes", o.number, len(i.data))
		}
		o.inode = bytes.Clone(i.data)
	case itemRef, itemRefLong:
		all, err := parseRefs(i)
		for _, r := range all {
			o.refs[place{r.parent, r.name}] = r
		}
		return err
	case itemXattr:
		return o.setXattrs(i)
	case itemDirIndex:
		return entries(i.data, func(e entry) error {
			o.add(i.k.offset, named{name: e.name, to: e.to, kind: e.kind})
			return nil
		})
	case itemExtent:
		o.extents = append(o.extents, item{i.k, bytes.Clone(i.data)})
	}
	return nil
}

func (o *object) directory() bool {
	return kinds[le.Uint32(o.inode[52:])&0o170000] == fsread.Directory
}

// entryKind is what entries of directories say of it.
func (o *object) entryKind() byte {
	return byte(max(0, slices.Index(types, kinds[le.Uint32(o.inode[52:])&0o170000])))
}

// parseRefs takes an item with references apart.
func parseRefs(i item) (all []ref, err error) {
	head := 10 // index 8, length of the name 2
	if i.k.kind == itemRefLong {
		head = 18 // the directory 8 comes before
	}
	for b := i.data; len(b) > 0; {
		if len(b) < head || len(b) < head+int(le.Uint16(b[head-2:])) {
			return nil, fsread.Corrupt(layer, "a reference of inode %d does not fit into its item", i.k.object)
		}
		r := ref{parent: i.k.offset, index: le.Uint64(b[head-10:])}
		if i.k.kind == itemRefLong {
			r.parent = le.Uint64(b)
		}
		n := head + int(le.Uint16(b[head-2:]))
		r.name, b = string(b[head:n]), b[n:]
		all = append(all, r)
	}
	return all, nil
}

// setXattrs puts the attributes of an item in place.
func (o *object) setXattrs(i item) error {
	return entries(i.data, func(e entry) error {
		o.xattrs[e.name] = bytes.Clone(e.value)
		return nil
	})
}

// extentEnd is where an extent of a file ends.
func extentEnd(i item, sector int64) (end uint64, inline, ok bool) {
	b := i.data
	if len(b) < inlineHeader {
		return 0, false, false
	}
	if b[20] == extentInline {
		n := le.Uint64(b[8:])
		if n > maxUnpacked || i.k.offset != 0 {
			return 0, true, false
		}
		return max(1, (n+uint64(sector)-1)/uint64(sector)) * uint64(sector), true, true
	}
	if len(b) < inlineHeader+32 {
		return 0, false, false
	}
	n := le.Uint64(b[45:])
	return i.k.offset + n, false, n > 0 && n < 1<<62 && i.k.offset < 1<<62
}

// replace takes ranges out of a file, which are in order; of extents that they touch the rest
// stays.
func (o *object) replace(gone []span, sector int64) error {
	var left []item
	for _, x := range o.extents {
		last, inline, ok := extentEnd(x, sector)
		if !ok {
			return fsread.Corrupt(layer, "inode %d has an extent at %d that makes no sense", o.number, x.k.offset)
		}
		from := x.k.offset
		n, _ := slices.BinarySearchFunc(gone, from, func(s span, at uint64) int { // the first that ends behind it
			if s.end <= at {
				return -1
			}
			return 1
		})
		touched := n < len(gone) && gone[n].start < last
		switch {
		case !touched:
			left = append(left, x)
			continue
		case inline && (gone[n].start > from || gone[n].end < last):
			return fsread.Unsupported(layer, "a log that changes a part of an extent in the inode %d", o.number)
		}
		for ; n < len(gone) && gone[n].start < last; n++ {
			if from < gone[n].start {
				left = append(left, x.cut(from, gone[n].start))
			}
			from = gone[n].end
		}
		if from < last {
			left = append(left, x.cut(from, last))
		}
	}
	o.extents = left
	return nil
}

// cut is the part of an extent between two places of the file.
func (i item) cut(from, to uint64) item {
	b := bytes.Clone(i.data)
	le.PutUint64(b[37:], le.Uint64(b[37:])+from-i.k.offset)
	le.PutUint64(b[45:], to-from)
	i.k.offset = from
	return item{i.k, b}
}

// result gives the objects as items, in order.
func (l *replay) result() map[uint64][]item {
	all := map[uint64][]item{}
	for n, o := range l.objects {
		var items []item
		if o.inode != nil {
			if !o.directory() {
				le.PutUint32(o.inode[40:], uint32(len(o.refs)))
			}
			items = append(items, item{key{n, itemInode, 0}, o.inode})
		}
		for name, value := range o.xattrs {
			items = append(items, item{key{n, itemXattr, uint64(len(items))}, rawEntry(named{name: name}, value)})
		}
		names := len(items)
		for index, e := range o.names {
			items = append(items, item{key{n, itemDirIndex, index}, rawEntry(e, nil)})
		}
		slices.SortFunc(items[names:], func(a, b item) int { return cmp.Compare(a.k.offset, b.k.offset) })
		all[n] = append(items, o.extents...)
	}
	return all
}

// rawEntry is an entry of a directory, or an attribute, as it lies in an item.
func rawEntry(e named, value []byte) []byte {
	b := make([]byte, dirEntry, dirEntry+len(e.name)+len(value))
	le.PutUint64(b, e.to.object)
	b[8] = e.to.kind
	le.PutUint64(b[9:], e.to.offset)
	le.PutUint16(b[25:], uint16(len(value)))
	le.PutUint16(b[27:], uint16(len(e.name)))
	b[29] = e.kind
	return append(append(b, e.name...), value...)
}
