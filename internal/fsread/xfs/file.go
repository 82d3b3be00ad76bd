package xfs

import (
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Stat reads an inode.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	n, err := f.load(id.Number)
	if err != nil {
		return fsread.Stat{}, err
	}
	st := fsread.Stat{
		ID: id, Kind: n.kind(), Mode: uint32(n.mode & 0o7777), UID: n.uid, GID: n.gid, Links: n.links, Size: n.size,
		Modified: n.modified, Accessed: n.accessed, Changed: n.changed, Created: n.created,
	}
	if n.data.format == formatDevice && len(n.data.raw) >= 4 {
		device := be.Uint32(n.data.raw)
		st.Major, st.Minor = device>>18, device&(1<<18-1)
	}
	return st, nil
}

// Open opens a file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	n, err := f.load(id.Number)
	if err != nil {
		return nil, err
	}
	switch {
	case n.kind() != fsread.Regular:
		return nil, fsread.ErrNotRegular
	case n.flags&flagRealtime != 0:
		return nil, fsread.Unsupported(layer, "a file on the real-time device")
	}
	m, err := f.mapping(n, &n.data)
	if err != nil {
		return nil, err
	}
	return fsread.NewFile(f.img, layer, n.size, m.run), nil
}

// maxTarget is what Linux allows.
const maxTarget = 1024

// Readlink reads the target of a symbolic link.
func (f *FS) Readlink(id fsread.ID) (string, error) {
	n, err := f.load(id.Number)
	if err != nil {
		return "", err
	}
	if n.kind() != fsread.Symlink {
		return "", fsread.ErrNotRegular
	}
	bad := fsread.Corrupt(layer, "the symbolic link %d has a target of %d bytes", n.number, n.size)
	if n.size < 1 || n.size > maxTarget {
		return "", bad
	}
	if n.data.format == formatLocal {
		if n.size > int64(len(n.data.raw)) {
			return "", bad
		}
		return string(n.data.raw[:n.size]), nil
	}
	m, err := f.mapping(n, &n.data)
	if err != nil {
		return "", err
	}
	var target []byte
	for block := uint64(0); int64(len(target)) < n.size; {
		e, _, err := m.find(block)
		if err != nil {
			return "", err
		}
		if e.count == 0 || e.first != block || e.count > maxTarget {
			return "", bad
		}
		b := make([]byte, e.count<<f.blockLog)
		found, err := m.blockRead(b, block)
		if err != nil {
			return "", err
		}
		if found == absent {
			return "", bad
		}
		part := b
		if f.v5 { // one header for each extent
			n := int(be.Uint32(b[8:]))
			if string(b[:4]) != "XSLM" || found == stored && !checksum(b, 12) || n < 1 || n > len(b)-56 {
				return "", bad
			}
			part = b[56 : 56+n]
		}
		target = append(target, part[:min(int64(len(part)), n.size-int64(len(target)))]...)
		block += e.count
	}
	return string(target), nil
}
