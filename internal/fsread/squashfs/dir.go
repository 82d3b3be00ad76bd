package squashfs

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// listing is the list of a directory's entries on the way.
type listing struct {
	n    inode
	c    cursor
	left int64
}

func (f *FS) listing(dir fsread.ID) (*listing, error) {
	n, err := f.inode(dir)
	if err != nil {
		return nil, err
	}
	if n.kind != fsread.Directory {
		return nil, fsread.ErrNotDir
	}
	// Its size counts "." and "..", with 3 bytes that are not there.
	l := &listing{n: n, c: cursor{f: f, at: f.directories + n.start, off: int(n.offset)}, left: n.size - 3}
	return l, nil
}

// read takes the next bytes of the list.
func (l *listing) read(p []byte) error {
	if l.left -= int64(len(p)); l.left < 0 {
		return fsread.Corrupt(layer, "the directory at %#x ends within an entry", l.n.id.Number)
	}
	return l.c.read(p)
}

// each calls do for the entries from here on until it returns false.
func (l *listing) each(do func(fsread.Entry) (bool, error)) error {
	var b [12]byte
	name := make([]byte, 256)
	for l.left > 0 {
		if err := l.read(b[:12]); err != nil {
			return err
		}
		count, block := uint64(le.Uint32(b[:]))+1, uint64(le.Uint32(b[4:]))
		if count > maxEntries {
			return fsread.Corrupt(layer, "the directory at %#x has %d entries behind one header", l.n.id.Number, count)
		}
		for range count {
			if err := l.read(b[:8]); err != nil {
				return err
			}
			kind, length := int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))+1
			if length > len(name) || kind == 0 || kind > longer {
				return fsread.Corrupt(layer, "the directory at %#x has an entry of type %d with a name of %d bytes", l.n.id.Number, kind, length)
			}
			if err := l.read(name[:length]); err != nil {
				return err
			}
			e := fsread.Entry{Name: string(name[:length]), ID: fsread.ID{Number: block<<16 | uint64(le.Uint16(b[:]))}, Kind: kinds[kind]}
			if more, err := do(e); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

// valid reports whether an entry can be shown.
func valid(name string) bool {
	return name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// ReadDir lists a directory.
func (f *FS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	l, err := f.listing(dir)
	if err != nil {
		return err
	}
	return l.each(func(e fsread.Entry) (bool, error) {
		if !valid(e.Name) {
			return true, nil
		}
		return true, each(e)
	})
}

// Lookup finds a name. The names are in order, and long directories have an index of
// where in the list some of them are.
func (f *FS) Lookup(dir fsread.ID, name string) (found fsread.Entry, err error) {
	l, err := f.listing(dir)
	if err != nil {
		return fsread.Entry{}, err
	}
	if err := l.seek(name); err != nil {
		return fsread.Entry{}, err
	}
	ok := false
	err = l.each(func(e fsread.Entry) (bool, error) {
		if e.Name == name && valid(name) {
			found, ok = e, true
		}
		return !ok && (name == "" || e.Name[0] <= name[0]), nil
	})
	if err == nil && !ok {
		err = fsread.ErrNotExist
	}
	return found, err
}

// seek goes to the last header whose name in the index is not behind the one that is
// wanted.
func (l *listing) seek(name string) error {
	var b [12]byte
	text := make([]byte, 256)
	for c, i := l.n.rest, uint32(0); i < l.n.index; i++ {
		if err := c.read(b[:]); err != nil {
			return err
		}
		at, block, length := int64(le.Uint32(b[:])), int64(le.Uint32(b[4:])), uint64(le.Uint32(b[8:]))+1
		if length > uint64(len(text)) || at > l.n.size-3 {
			return fsread.Corrupt(layer, "the directory at %#x has an index that makes no sense", l.n.id.Number)
		}
		if err := c.read(text[:length]); err != nil {
			return err
		}
		if string(text[:length]) > name {
			return nil
		}
		l.c.at, l.c.off = l.c.f.directories+block, int((int64(l.n.offset)+at)%metaSize)
		l.left = l.n.size - 3 - at
	}
	return nil
}
