package ntfs

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Tags of reparse points.
const (
	tagJunction    = 0xa0000003
	tagSymlink     = 0xa000000c
	tagLinuxLink   = 0xa000001d
	tagLinuxSocket = 0x80000023
	tagLinuxFIFO   = 0x80000024
	tagLinuxChar   = 0x80000025
	tagLinuxBlock  = 0x80000026
	tagWOF         = 0x80000017
	tagDedup       = 0x80000013

	maxReparse = 16 << 10
)

// special is what is neither a directory nor a file with content.
type special struct {
	kind         fsread.Kind
	target       string
	major, minor uint32
}

// point is a reparse point.
type point struct {
	tag  uint32
	data []byte
}

func (r *record) reparsePoint() (point, bool) {
	a := r.first(typeReparse)
	if a == nil {
		return point{}, false
	}
	if a.nonresident || len(a.value) < 8 {
		return point{}, true
	}
	p := point{tag: le.Uint32(a.value), data: a.value[8:]}
	p.data = p.data[:min(len(p.data), int(le.Uint16(a.value[4:])))]
	return p, true
}

// refuse says why a file with this point has no content here.
func (p point) refuse() error {
	switch p.tag {
	case tagDedup:
		return fsread.Unsupported(layer, "a file with deduplicated content")
	}
	return fsread.Unsupported(layer, "a file with the reparse tag %#x", p.tag)
}

// reparse is what a reparse point makes of a file, if it is one of those that
// stand for something else.
func (f *FS) reparse(r *record) (special, bool, error) {
	a := r.first(typeReparse)
	if a == nil {
		return special{}, false, nil
	}
	if a.nonresident {
		img, err := f.stream(r.find(typeReparse, ""), "a reparse point")
		if err != nil {
			return special{}, false, err
		}
		if img.Size() > maxReparse {
			return special{}, false, fsread.Corrupt(layer, "record %d has a reparse point of %d bytes", r.number, img.Size())
		}
		b := make([]byte, img.Size())
		if err := fsread.ReadFull(img, layer, b, 0); err != nil {
			return special{}, false, err
		}
		a = &attribute{value: b}
	}
	if len(a.value) < 8 {
		return special{}, false, fsread.Corrupt(layer, "record %d has a reparse point of %d bytes", r.number, len(a.value))
	}
	p := point{tag: le.Uint32(a.value), data: a.value[8:]}
	switch p.tag {
	case tagJunction:
		return p.link(r, 8)
	case tagSymlink:
		return p.link(r, 12)
	case tagLinuxLink:
		if len(p.data) < 5 {
			return special{}, false, fsread.Corrupt(layer, "record %d has a link of %d bytes", r.number, len(p.data))
		}
		return special{kind: fsread.Symlink, target: string(p.data[4:])}, true, nil
	case tagLinuxSocket:
		return special{kind: fsread.Socket}, true, nil
	case tagLinuxFIFO:
		return special{kind: fsread.FIFO}, true, nil
	case tagLinuxChar, tagLinuxBlock:
		return special{}, false, fsread.Unsupported(layer, "a device of the Linux subsystem")
	}
	return special{}, false, nil
}

// link reads a link of Windows: its name to be shown, else the one to be used.
func (p point) link(r *record, names int) (special, bool, error) {
	bad := fsread.Corrupt(layer, "record %d has a link that does not fit into itself", r.number)
	if len(p.data) < names {
		return special{}, false, bad
	}
	part := func(at int) (string, bool) {
		off, n := names+int(le.Uint16(p.data[at:])), int(le.Uint16(p.data[at+2:]))
		if off+n > len(p.data) {
			return "", false
		}
		return utf16(p.data[off : off+n]), true
	}
	target, ok := part(4)
	if ok && target == "" {
		target, ok = part(0)
		target = strings.TrimPrefix(target, `\??\`)
	}
	if !ok || target == "" || strings.ContainsRune(target, 0) {
		return special{}, false, bad
	}
	return special{kind: fsread.Symlink, target: strings.ReplaceAll(target, `\`, "/")}, true, nil
}

// special says what a file is that has a reparse point, or is one of Interix,
// which are files of the system with a short content of their own.
func (f *FS) special(r *record, dos uint32) (special, bool, error) {
	s, ok, err := f.reparse(r)
	if ok || err != nil || dos&fileSystem == 0 || r.directory() {
		return s, ok, err
	}
	data := r.find(typeData, "")
	if len(data) != 1 || data[0].size < 10 || data[0].size > maxReparse || data[0].flags != 0 {
		return special{}, false, nil
	}
	img, err := f.stream(data, "a file")
	if err != nil {
		return special{}, false, err
	}
	b := make([]byte, img.Size())
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return special{}, false, err
	}
	s.kind = map[string]fsread.Kind{
		"IntxLNK\x01": fsread.Symlink, "IntxCHR\x00": fsread.CharDevice, "IntxBLK\x00": fsread.BlockDevice,
	}[string(b[:8])]
	switch {
	case s.kind == fsread.Symlink && !strings.ContainsRune(utf16(b[8:]), 0):
		s.target = utf16(b[8:])
		return s, true, nil
	case s.kind != fsread.Unknown && s.kind != fsread.Symlink && len(b) == 24:
		s.major, s.minor = uint32(le.Uint64(b[8:])), uint32(le.Uint64(b[16:]))
		return s, true, nil
	}
	return special{}, false, nil
}
