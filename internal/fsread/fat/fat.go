package fat

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Attributes of entries, FAT's and exFAT's.
const (
	attrReadOnly  = 0x01
	attrLabel     = 0x08
	attrDirectory = 0x10
	attrLong      = 0x0f
)

// FS is a FAT12, FAT16 or FAT32.
type FS struct {
	volume
	about fsread.About

	root    int64 // cluster of the root; 0: it lies before the clusters
	rootAt  int64 // byte
	rootLen int64 // bytes
}

var _ fsread.FS = (*FS)(nil)

// maxDirectory is what other systems read of a directory.
const maxDirectory = 65536 * recordSize

// Open opens img if it holds a FAT12, FAT16 or FAT32, and gives
// fsread.ErrOther else.
func Open(img image.Image) (*FS, error) {
	b := make([]byte, 512)
	if img.Size() < 512 {
		return nil, fsread.ErrOther
	}
	if err := fsread.ReadFull(img, "vfat", b, 0); err != nil {
		return nil, err
	}
	sector, per := int64(le.Uint16(b[11:])), int64(b[13])
	reserved, tables, entries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	powers := sector >= 512 && sector <= 4096 && sector&(sector-1) == 0 && per > 0 && per&(per-1) == 0
	if !powers || reserved == 0 || tables == 0 || b[21] < 0xf8 && b[21] != 0xf0 {
		return nil, fsread.ErrOther
	}
	sectors := int64(le.Uint16(b[19:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	length := int64(le.Uint16(b[22:]))
	f := &FS{volume: volume{layer: "vfat", img: img, cluster: sector * per, page: -1, table: reserved * sector}}
	wide := length == 0
	if wide {
		length = int64(le.Uint32(b[36:]))
	}
	f.rootAt, f.rootLen = (reserved+tables*length)*sector, (entries*recordSize+sector-1)/sector*sector
	f.heap = f.rootAt + f.rootLen
	f.clusters = (sectors*sector - f.heap) / f.cluster
	if length == 0 || f.clusters < 1 {
		return nil, fsread.ErrOther
	}
	if sectors*sector > img.Size() {
		return nil, fsread.Corrupt(f.layer, "the boot sector says %d bytes, the image has %d", sectors*sector, img.Size())
	}
	switch {
	case wide:
		f.bits, f.root = 32, int64(le.Uint32(b[44:]))
		if flags := le.Uint16(b[40:]); flags&0x80 != 0 && int64(flags&0xf) < tables {
			f.table += int64(flags&0xf) * length * sector
		}
		if !f.valid(f.root) {
			return nil, fsread.Corrupt(f.layer, "the root begins at cluster %d, there are %d", f.root, f.clusters)
		}
	case f.clusters > 4084:
		f.bits = 16
	default:
		f.bits = 12
	}
	// What the table has no place for cannot be reached.
	f.clusters = min(f.clusters, length*sector*8/int64(f.bits)-2)
	f.describe(b, sectors*sector)
	return f, nil
}

func (f *FS) describe(b []byte, size int64) {
	at := 36
	if f.bits == 32 {
		at = 64
	}
	f.about = fsread.About{Type: "vfat", Size: size}
	if b[at+2] == 0x29 || b[at+2] == 0x28 {
		f.about.UUID = fmt.Sprintf("%04X-%04X", le.Uint16(b[at+5:]), le.Uint16(b[at+3:]))
		if l := strings.TrimRight(string(b[at+7:at+18]), " \x00"); l != "NO NAME" {
			f.about.Label = dos(b[at+7 : at+18])
		}
	}
}

// About describes the file system.
func (f *FS) About() fsread.About { return f.about }

// Root is the root directory.
func (f *FS) Root() fsread.ID { return fsread.ID{} }

func (f *FS) rootStat() fsread.Stat {
	return fsread.Stat{Kind: fsread.Directory, Mode: 0o755, Links: 1, Invented: true}
}

// Stat reads the entry of a file.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	if id == f.Root() {
		return f.rootStat(), nil
	}
	rec, err := f.record(int64(id.Number))
	if err != nil {
		return fsread.Stat{}, err
	}
	st := fsread.Stat{
		ID: id, Kind: fsread.Regular, Mode: 0o755, Links: 1, Invented: true,
		Size:     int64(le.Uint32(rec[28:])),
		Modified: dosTime(le.Uint16(rec[24:]), le.Uint16(rec[22:]), 0),
		Accessed: dosTime(le.Uint16(rec[18:]), 0, 0),
		Created:  dosTime(le.Uint16(rec[16:]), le.Uint16(rec[14:]), rec[13]),
	}
	if rec[11]&attrReadOnly != 0 {
		st.Mode &^= 0o222
	}
	if rec[11]&attrDirectory != 0 {
		st.Kind, st.Size = fsread.Directory, 0
	}
	return st, nil
}

// start is the first cluster of an entry.
func (f *FS) start(rec []byte) int64 {
	first := int64(le.Uint16(rec[26:]))
	if f.bits == 32 {
		first |= int64(le.Uint16(rec[20:])) << 16
	}
	return first
}

// Open opens a file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	if id == f.Root() {
		return nil, fsread.ErrNotRegular
	}
	rec, err := f.record(int64(id.Number))
	if err != nil {
		return nil, err
	}
	if rec[11]&(attrDirectory|attrLabel) != 0 {
		return nil, fsread.ErrNotRegular
	}
	c, err := f.chainFrom(f.start(rec), 0, false)
	if err != nil {
		return nil, err
	}
	return fsread.NewFile(f.img, f.layer, int64(le.Uint32(rec[28:])), c.find), nil
}

// directory opens the chain of a directory.
func (f *FS) directory(id fsread.ID) (*chain, error) {
	first := f.root
	if id != f.Root() {
		rec, err := f.record(int64(id.Number))
		if err != nil {
			return nil, err
		}
		if rec[11]&attrDirectory == 0 || rec[11]&attrLabel != 0 {
			return nil, fsread.ErrNotDir
		}
		if first = f.start(rec); first == 0 { // not even "." and ".."
			return nil, fsread.Corrupt(f.layer, "the directory of the entry at %d begins nowhere", id.Number)
		}
	}
	if first != 0 {
		return f.chainFrom(first, 0, false)
	}
	return &chain{v: &f.volume, runs: []fsread.Run{{Length: f.rootLen, At: f.rootAt}}, have: f.rootLen}, nil
}

// ReadDir lists a directory.
func (f *FS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	c, err := f.directory(dir)
	if err != nil {
		return err
	}
	var long longName
	return c.records(maxDirectory, func(at int64, rec []byte) (bool, error) {
		switch {
		case rec[0] == 0:
			return false, nil
		case rec[0] == 0xe5:
			long = longName{}
			return true, nil
		case rec[11]&0x3f == attrLong:
			long.add(rec)
			return true, nil
		}
		name, ok := long.take(rec)
		if !ok {
			name = shortName(rec)
		}
		if rec[11]&attrLabel != 0 || !usable(name) {
			return true, nil
		}
		e := fsread.Entry{Name: name, ID: fsread.ID{Number: uint64(at)}, Kind: fsread.Regular}
		if rec[11]&attrDirectory != 0 {
			e.Kind = fsread.Directory
		}
		return true, each(e)
	})
}

// Lookup finds a name, written exactly or in other case.
func (f *FS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	return fsread.LookupFolded(f, dir, name)
}

// Readlink refuses: there are no symbolic links.
func (f *FS) Readlink(fsread.ID) (string, error) { return "", errNoLinks }

// Xattrs are none.
func (f *FS) Xattrs(fsread.ID) ([]fsread.Xattr, error) { return nil, nil }

var errNoLinks = fmt.Errorf("not a symbolic link: FAT has none")
