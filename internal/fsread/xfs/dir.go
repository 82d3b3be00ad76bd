package xfs

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// leafOffset is where the indexes of a directory begin, behind its names.
const leafOffset = 32 << 30

// types are what directories say of their entries.
var types = []fsread.Kind{
	fsread.Unknown, fsread.Regular, fsread.Directory, fsread.CharDevice, fsread.BlockDevice, fsread.FIFO, fsread.Socket, fsread.Symlink,
}

// ReadDir lists a directory.
func (f *FS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	n, err := f.load(dir.Number)
	if err != nil {
		return err
	}
	if n.kind() != fsread.Directory {
		return fsread.ErrNotDir
	}
	if n.data.format == formatLocal {
		return f.short(n, each)
	}
	m, err := f.mapping(n, &n.data)
	if err != nil {
		return err
	}
	per := uint64(f.dirBlock >> f.blockLog)
	end := uint64(min(n.size, leafOffset)) >> f.blockLog
	b := make([]byte, f.dirBlock)
	for block := uint64(0); block < end; block += per {
		e, next, err := m.find(block)
		if err != nil {
			return err
		}
		if e.count == 0 { // names were here, and are removed
			if next >= end {
				return nil
			}
			block = next/per*per - per
			continue
		}
		found, err := m.blockRead(b, block)
		if err != nil {
			return err
		}
		if found == absent {
			return fsread.Corrupt(layer, "directory %d has a hole in its block %d", n.number, block)
		}
		if err := f.names(n, b, block, found == logged, each); err != nil {
			return err
		}
	}
	return nil
}

// names lists one block of names.
func (f *FS) names(n *inode, b []byte, block uint64, newer bool, each func(fsread.Entry) error) error {
	single, data, at := "XD2B", "XD2D", 16
	if f.v5 {
		single, data, at = "XDB3", "XDD3", 64
		if !newer && !checksum(b, 4) || !f.owner(b, 40, n) {
			return fsread.Corrupt(layer, "directory %d: the checksum or owner of its block %d is wrong", n.number, block)
		}
	}
	end := len(b)
	switch string(b[:4]) {
	case single: // with an index at its end
		if index := int64(be.Uint32(b[end-8:])) * 8; index < int64(end-8-at) {
			end -= 8 + int(index)
		} else {
			return fsread.Corrupt(layer, "directory %d: an index of %d bytes in a block", n.number, index)
		}
	case data:
	default:
		return fsread.Corrupt(layer, "directory %d: its block %d begins with %q", n.number, block, b[:4])
	}
	tail := 2 // the place of the entry, behind it
	if f.fileType {
		tail = 3
	}
	for at < end {
		if at+8 > end {
			return fsread.Corrupt(layer, "directory %d: an entry at %d of %d in its block %d", n.number, at, end, block)
		}
		if be.Uint16(b[at:]) == 0xffff {
			length := int(be.Uint16(b[at+2:]))
			if length < 8 || length%8 != 0 {
				return fsread.Corrupt(layer, "directory %d: %d bytes of nothing at %d in its block %d", n.number, length, at, block)
			}
			at += length
			continue
		}
		length := at + 9 + int(b[min(at+8, end-1)]) + tail
		if length = (length + 7) &^ 7; length > end {
			return fsread.Corrupt(layer, "directory %d: the entry at %d of %d in its block %d does not fit", n.number, at, end, block)
		}
		name := string(b[at+9 : at+9+int(b[at+8])])
		var kind byte
		if f.fileType {
			kind = b[at+9+len(name)]
		}
		if err := tell(name, be.Uint64(b[at:]), kind, each); err != nil {
			return err
		}
		at = length
	}
	return nil
}

// short lists a directory that lies in its inode.
func (f *FS) short(n *inode, each func(fsread.Entry) error) error {
	b := n.data.raw
	bad := fsread.Corrupt(layer, "directory %d: its list of names does not fit into itself", n.number)
	if int64(len(b)) < n.size || n.size < 6 {
		return bad
	}
	b = b[:n.size]
	number, count := 4, int(b[0])
	if b[1] != 0 {
		number, count = 8, max(count, int(b[1]))
	}
	kinds := 0
	if f.fileType {
		kinds = 1
	}
	if 2+number > len(b) {
		return bad
	}
	for b = b[2+number:]; count > 0; count-- {
		if len(b) < 3 || len(b) < 3+int(b[0])+kinds+number {
			return bad
		}
		name := string(b[3 : 3+int(b[0])])
		b = b[3+len(name):]
		var kind byte
		if kinds > 0 {
			kind, b = b[0], b[1:]
		}
		id := uint64(be.Uint32(b))
		if number == 8 {
			id = be.Uint64(b)
		}
		b = b[number:]
		if err := tell(name, id, kind, each); err != nil {
			return err
		}
	}
	return nil
}

// tell passes an entry on if its name is one.
func tell(name string, id uint64, kind byte, each func(fsread.Entry) error) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return nil
	}
	e := fsread.Entry{Name: name, ID: fsread.ID{Number: id}}
	if int(kind) < len(types) {
		e.Kind = types[kind]
	}
	return each(e)
}

// Lookup finds a name.
func (f *FS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	return fsread.LookupLinear(f, dir, name)
}
