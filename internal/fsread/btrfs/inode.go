package btrfs

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// types are what entries of directories say.
var types = []fsread.Kind{
	fsread.Unknown, fsread.Regular, fsread.Directory, fsread.CharDevice, fsread.BlockDevice, fsread.FIFO, fsread.Socket, fsread.Symlink,
}

var kinds = map[uint32]fsread.Kind{
	0o100000: fsread.Regular, 0o040000: fsread.Directory, 0o120000: fsread.Symlink, 0o020000: fsread.CharDevice,
	0o060000: fsread.BlockDevice, 0o010000: fsread.FIFO, 0o140000: fsread.Socket,
}

const inodeSize = 160

// Stat reads an inode.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	if id.Number == emptyDir {
		return fsread.Stat{ID: id, Kind: fsread.Directory, Mode: 0o755, Links: 1, Invented: true}, nil
	}
	r, err := f.tree(id.Tree)
	if err != nil {
		return fsread.Stat{}, err
	}
	b, err := f.find(r, key{object: id.Number, kind: itemInode})
	if err != nil {
		return fsread.Stat{}, err
	}
	if len(b) < inodeSize {
		return fsread.Stat{}, fsread.Corrupt(layer, "inode %d of tree %d has %d bytes", id.Number, id.Tree, len(b))
	}
	mode, rdev := le.Uint32(b[52:]), le.Uint64(b[56:])
	st := fsread.Stat{
		ID: id, Kind: kinds[mode&0o170000], Mode: mode & 0o7777, UID: le.Uint32(b[44:]), GID: le.Uint32(b[48:]), Links: le.Uint32(b[40:]),
		Size:  int64(le.Uint64(b[16:])),
		Major: uint32(rdev >> 20), Minor: uint32(rdev & (1<<20 - 1)),
		Accessed: stamp(b[112:]), Changed: stamp(b[124:]), Modified: stamp(b[136:]), Created: stamp(b[148:]),
	}
	if st.Kind == fsread.Unknown || st.Size < 0 {
		return fsread.Stat{}, fsread.Corrupt(layer, "inode %d of tree %d has the mode %#o and %d bytes", id.Number, id.Tree, mode, st.Size)
	}
	if st.Kind != fsread.CharDevice && st.Kind != fsread.BlockDevice {
		st.Major, st.Minor = 0, 0
	}
	return st, nil
}

func stamp(b []byte) time.Time {
	return time.Unix(int64(le.Uint64(b)), int64(le.Uint32(b[8:]))).UTC()
}

// entry is one entry of a directory, or an attribute, of which several may be in
// one item.
type entry struct {
	to    key
	kind  byte
	name  string
	value []byte
}

// entries takes an item apart.
func entries(b []byte, do func(entry) error) error {
	for len(b) > 0 {
		if len(b) < dirEntry {
			return fsread.Corrupt(layer, "an entry of %d bytes", len(b))
		}
		value, name := int(le.Uint16(b[25:])), int(le.Uint16(b[27:]))
		if len(b) < dirEntry+name+value {
			return fsread.Corrupt(layer, "an entry with a name of %d and a value of %d bytes does not fit", name, value)
		}
		e := entry{to: parseKey(b), kind: b[29], name: string(b[dirEntry : dirEntry+name]), value: b[dirEntry+name : dirEntry+name+value]}
		if err := do(e); err != nil {
			return err
		}
		b = b[dirEntry+name+value:]
	}
	return nil
}

// directory checks that an inode is one.
func (f *FS) directory(id fsread.ID) (root, error) {
	st, err := f.Stat(id)
	if err != nil {
		return root{}, err
	}
	if st.Kind != fsread.Directory {
		return root{}, fsread.ErrNotDir
	}
	return f.tree(id.Tree)
}

// ReadDir lists a directory.
func (f *FS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	r, err := f.directory(dir)
	if err != nil || dir.Number == emptyDir {
		return err
	}
	return f.each(r, key{object: dir.Number, kind: itemDirIndex}, func(k key, data []byte) (bool, error) {
		if k.object != dir.Number || k.kind != itemDirIndex {
			return false, nil
		}
		return true, entries(data, func(e entry) error {
			if e.name == "" || e.name == "." || e.name == ".." || strings.ContainsAny(e.name, "/\x00") {
				return nil
			}
			out := fsread.Entry{Name: e.name, ID: fsread.ID{Tree: dir.Tree, Number: e.to.object}}
			if int(e.kind) < len(types) {
				out.Kind = types[e.kind]
			}
			if e.to.kind == itemRoot {
				var err error
				if out.ID, err = f.subvolume(dir, e); err != nil {
					return err
				}
			}
			return each(out)
		})
	})
}

// subvolume is where an entry leads that is one: nowhere, if it was copied with
// the directory that it is in.
func (f *FS) subvolume(dir fsread.ID, e entry) (fsread.ID, error) {
	ref, err := f.find(f.root, key{object: dir.Tree, kind: itemRootRef, offset: e.to.object})
	if err != nil {
		return fsread.ID{}, err
	}
	if len(ref) >= 18 && le.Uint64(ref) == dir.Number && string(ref[18:min(len(ref), 18+int(le.Uint16(ref[16:])))]) == e.name {
		return fsread.ID{Tree: e.to.object, Number: firstObject}, nil
	}
	return fsread.ID{Tree: dir.Tree, Number: emptyDir}, nil
}

// Lookup finds a name.
func (f *FS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	return fsread.LookupLinear(f, dir, name)
}

// maxAttrs bounds the attributes of a file, bytes.
const maxAttrs = 16 << 20

// Xattrs lists the extended attributes.
func (f *FS) Xattrs(id fsread.ID) (all []fsread.Xattr, err error) {
	if id.Number == emptyDir {
		return nil, nil
	}
	r, err := f.tree(id.Tree)
	if err != nil {
		return nil, err
	}
	size := 0
	err = f.each(r, key{object: id.Number, kind: itemXattr}, func(k key, data []byte) (bool, error) {
		if k.object != id.Number || k.kind != itemXattr {
			return false, nil
		}
		if size += len(data); size > maxAttrs {
			return false, fsread.Corrupt(layer, "inode %d has more than %d bytes of attributes", id.Number, maxAttrs)
		}
		return true, entries(data, func(e entry) error {
			all = append(all, fsread.Xattr{Name: e.name, Value: slices.Clone(e.value)})
			return nil
		})
	})
	slices.SortFunc(all, func(x, y fsread.Xattr) int { return strings.Compare(x.Name, y.Name) })
	return all, err
}
