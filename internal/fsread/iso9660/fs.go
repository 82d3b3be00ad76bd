package iso9660

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

var kinds = map[uint32]fsread.Kind{
	0o100000: fsread.Regular, 0o040000: fsread.Directory, 0o120000: fsread.Symlink, 0o020000: fsread.CharDevice,
	0o060000: fsread.BlockDevice, 0o010000: fsread.FIFO, 0o140000: fsread.Socket,
}

// load reads a record and what Rock Ridge says of it. Of directories it is that of
// their own first record, which the root has alone.
func (f *FS) load(id fsread.ID) (record, rock, error) {
	r, err := f.record(int64(id.Number))
	if err != nil {
		return r, rock{}, err
	}
	if int64(id.Number) == f.root && f.rock {
		dot, err := f.record(r.block * f.block)
		if err != nil {
			return r, rock{}, err
		}
		r.room = dot.room
	}
	k, err := f.rockOf(r)
	if err != nil || k.child == 0 {
		return r, k, err
	}
	moved, err := f.record(k.child * f.block) // its own first record
	if err != nil {
		return r, rock{}, err
	}
	k, err = f.rockOf(moved)
	moved.at = r.at
	k.child = 0
	return moved, k, err
}

// Stat reads the record of a file.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	r, k, err := f.load(id)
	if err != nil {
		return fsread.Stat{}, err
	}
	st := fsread.Stat{ID: id, Kind: fsread.Regular, Mode: 0o555, Links: 1, Size: r.size, Modified: r.date, Invented: true}
	if r.flags&flagDirectory != 0 {
		st.Kind = fsread.Directory
	}
	if k.mode != 0 {
		st.Kind, st.Mode, st.UID, st.GID, st.Links, st.Invented = kinds[k.mode&0o170000], k.mode&0o7777, k.uid, k.gid, k.links, false
		if st.Kind == fsread.Unknown || (st.Kind == fsread.Directory) != (r.flags&flagDirectory != 0) {
			return fsread.Stat{}, fsread.Corrupt(layer, "the record at %d has the mode %#o", r.at, k.mode)
		}
		st.Major, st.Minor = k.major, k.minor
		st.Accessed, st.Changed, st.Created = k.accessed, k.changed, k.created
		if !k.modified.IsZero() {
			st.Modified = k.modified
		}
	}
	switch st.Kind {
	case fsread.Symlink:
		st.Size = int64(len(k.target))
	case fsread.Regular:
		if r.flags&flagMore != 0 {
			_, st.Size, err = f.pieces(r)
		}
	}
	return st, err
}

// pieces are where the content of a file lies: several records follow each other if
// it is 4 GiB or more.
func (f *FS) pieces(r record) (runs []fsread.Run, size int64, err error) {
	for {
		if r.interleaved {
			return nil, 0, fsread.Unsupported(layer, "a file in interleaved pieces")
		}
		if r.size > 0 {
			runs = append(runs, fsread.Run{Offset: size, Length: r.size, At: (r.block + r.extra) * f.block})
		}
		size += r.size
		if r.flags&flagMore == 0 {
			return runs, size, nil
		}
		if len(runs) >= maxPieces {
			return nil, 0, fsread.Corrupt(layer, "the file at %d has more than %d pieces", r.at, maxPieces)
		}
		next := r.at + r.length
		var first [1]byte
		if err := fsread.ReadFull(f.img, layer, first[:], next); err != nil {
			return nil, 0, err
		}
		if first[0] == 0 { // on in the next sector
			next = (next/sector + 1) * sector
		}
		if r, err = f.record(next); err != nil {
			return nil, 0, err
		}
	}
}

// Open opens a file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	r, k, err := f.load(id)
	if err != nil {
		return nil, err
	}
	switch {
	case r.flags&flagDirectory != 0 || k.mode != 0 && kinds[k.mode&0o170000] != fsread.Regular:
		return nil, fsread.ErrNotRegular
	case k.compressed:
		return nil, fsread.Unsupported(layer, "a compressed file (zisofs)")
	}
	runs, size, err := f.pieces(r)
	if err != nil {
		return nil, err
	}
	return fsread.NewFile(f.img, layer, size, func(off int64) (fsread.Run, error) {
		for _, r := range runs {
			if off < r.Offset+r.Length {
				return r, nil
			}
		}
		return fsread.Run{}, fsread.Corrupt(layer, "a file of %d bytes has nothing at %d", size, off)
	}), nil
}

// ReadDir lists a directory.
func (f *FS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	d, _, err := f.load(dir)
	if err != nil {
		return err
	}
	if d.flags&flagDirectory == 0 {
		return fsread.ErrNotDir
	}
	if d.size > maxDirectory {
		return fsread.Corrupt(layer, "the directory at %d has %d bytes", d.at, d.size)
	}
	b := make([]byte, sector)
	more := false
	for off := int64(0); off < d.size; off += sector {
		at := (d.block+d.extra)*f.block + off
		part := b[:min(sector, d.size-off)]
		if err := fsread.ReadFull(f.img, layer, part, at); err != nil {
			return err
		}
		for i := 0; i < len(part) && part[i] != 0; {
			if len(part)-i < 34 {
				return fsread.Corrupt(layer, "a record at %d does not fit into its sector", at+int64(i))
			}
			r, err := f.parse(part[i:], at+int64(i))
			if err != nil {
				return err
			}
			i += int(r.length)
			again := more // a further piece of the file before
			more = r.flags&flagMore != 0
			if again {
				continue
			}
			if err := f.tell(r, each); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell passes a record on, unless it is one of the two that all directories have,
// or shown elsewhere.
func (f *FS) tell(r record, each func(fsread.Entry) error) error {
	if len(r.name) == 1 && r.name[0] <= 1 {
		return nil
	}
	name := f.plainName(r.name)
	e := fsread.Entry{ID: fsread.ID{Number: uint64(r.at)}}
	if f.rock {
		k, err := f.rockOf(r)
		if err != nil {
			return err
		}
		if k.moved {
			return nil
		}
		if k.hasName {
			name = k.name
		}
		e.Kind = kinds[k.mode&0o170000]
		if k.child != 0 {
			e.Kind = fsread.Directory
		}
	} else if e.Kind = fsread.Regular; r.flags&flagDirectory != 0 {
		e.Kind = fsread.Directory
	}
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil
	}
	e.Name = name
	return each(e)
}

// Lookup finds a name; in other case where the names are not those of Rock Ridge.
func (f *FS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	if f.rock {
		return fsread.LookupLinear(f, dir, name)
	}
	return fsread.LookupFolded(f, dir, name)
}

// Readlink reads the target of a symbolic link.
func (f *FS) Readlink(id fsread.ID) (string, error) {
	r, k, err := f.load(id)
	if err != nil {
		return "", err
	}
	if kinds[k.mode&0o170000] != fsread.Symlink {
		return "", fsread.ErrNotRegular
	}
	if k.target == "" || len(k.target) > 4095 || strings.ContainsRune(k.target, 0) {
		return "", fsread.Corrupt(layer, "the record at %d has a link of %d bytes", r.at, len(k.target))
	}
	return k.target, nil
}

// Xattrs are none.
func (f *FS) Xattrs(fsread.ID) ([]fsread.Xattr, error) { return nil, nil }
