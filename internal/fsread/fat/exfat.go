package fat

import (
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Records of exFAT.
const (
	recLabel  = 0x83
	recFile   = 0x85
	recStream = 0xc0
	recName   = 0xc1

	maxExDirectory = 256 << 20
	inOnePiece     = 1 << 63 // in an ID: the directory does not use the table
)

// ExFS is an exFAT.
type ExFS struct {
	volume
	about fsread.About
	root  int64
}

var _ fsread.FS = (*ExFS)(nil)

// OpenEx opens img if it holds an exFAT, and gives fsread.ErrOther else.
func OpenEx(img image.Image) (*ExFS, error) {
	if img.Size() < 512 {
		return nil, fsread.ErrOther
	}
	b := make([]byte, 512)
	if err := fsread.ReadFull(img, "exfat", b, 0); err != nil {
		return nil, err
	}
	if string(b[3:11]) != "EXFAT   " || b[510] != 0x55 || b[511] != 0xaa {
		return nil, fsread.ErrOther
	}
	shift, per, tables := b[108], b[109], b[110]
	if shift < 9 || shift > 12 || per > 25-shift {
		return nil, fsread.Corrupt("exfat", "sectors of 2^%d bytes, clusters of 2^%d sectors", shift, per)
	}
	if tables != 1 && tables != 2 {
		return nil, fsread.Unsupported("exfat", "%d tables", tables)
	}
	if err := bootChecksum(img, int64(1)<<shift); err != nil {
		return nil, err
	}
	table, length := int64(le.Uint32(b[80:])), int64(le.Uint32(b[84:]))
	size := le.Uint64(b[72:])
	if size > uint64(img.Size())>>shift {
		return nil, fsread.Corrupt("exfat", "the boot sector says %d sectors of %d bytes, the image has %d bytes", size, 1<<shift, img.Size())
	}
	f := &ExFS{volume: volume{
		layer: "exfat", img: img, bits: 32, page: -1,
		table: table << shift, cluster: 1 << (shift + per), heap: int64(le.Uint32(b[88:])) << shift, clusters: int64(le.Uint32(b[92:])),
	}, root: int64(le.Uint32(b[96:]))}
	if tables == 2 && b[106]&1 != 0 {
		f.table += length << shift
	}
	if table == 0 || (f.clusters+2)*4 > length<<shift || f.clusters > (img.Size()-f.heap)/f.cluster || !f.valid(f.root) {
		return nil, fsread.Corrupt(f.layer, "%d clusters from byte %d, a table of %d sectors, the root at cluster %d do not fit", f.clusters, f.heap, length, f.root)
	}
	f.about = fsread.About{
		Type: "exfat", Size: int64(size) << shift,
		UUID: fmt.Sprintf("%04X-%04X", le.Uint16(b[102:]), le.Uint16(b[100:])),
	}
	if b[106]&2 != 0 {
		f.about.Notices = append(f.about.Notices, "was not unmounted")
	}
	return f, f.readLabel()
}

// bootChecksum checks sectors 0 to 10 against sector 11.
func bootChecksum(img image.Image, sector int64) error {
	b := make([]byte, 12*sector)
	if err := fsread.ReadFull(img, "exfat", b, 0); err != nil {
		return err
	}
	var sum uint32
	for i, c := range b[:11*sector] {
		if i == 106 || i == 107 || i == 112 {
			continue
		}
		sum = sum<<31 | sum>>1
		sum += uint32(c)
	}
	if got := le.Uint32(b[11*sector:]); got != sum {
		return fsread.Corrupt("exfat", "the checksum of the boot sectors is %08x, should be %08x", got, sum)
	}
	return nil
}

func (f *ExFS) readLabel() error {
	c, err := f.chainFrom(f.root, 0, false)
	if err != nil {
		return err
	}
	return c.records(maxExDirectory, func(_ int64, rec []byte) (bool, error) {
		if rec[0] == recLabel && rec[1] <= 11 {
			f.about.Label = fsread.UTF16(units(rec[2 : 2+2*rec[1]]))
			return false, nil
		}
		return rec[0] != 0 && rec[0] != recFile, nil // it comes first, where there is one
	})
}

func units(b []byte) []uint16 {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = le.Uint16(b[2*i:])
	}
	return u
}

// About describes the file system.
func (f *ExFS) About() fsread.About { return f.about }

// Root is the root directory.
func (f *ExFS) Root() fsread.ID { return fsread.ID{} }

// set is the records of one file.
type set struct {
	raw []byte
	at  int64 // of the first record
}

// want is how many records the set has, as its first says.
func (s *set) want() int { return (int(s.raw[1]) + 1) * recordSize }

// whole checks a set of which all records are there.
func (s *set) whole() error {
	var sum uint16
	for i, c := range s.raw {
		if i != 2 && i != 3 {
			sum = sum<<15 | sum>>1
			sum += uint16(c)
		}
	}
	if got := le.Uint16(s.raw[2:]); got != sum {
		return fsread.Corrupt("exfat", "the checksum of the entry at %d is %04x, should be %04x", s.at, got, sum)
	}
	if names := len(s.raw)/recordSize - 2; names < 1 || s.stream()[0] != recStream || int(s.stream()[3]) > names*15 {
		return fsread.Corrupt("exfat", "the entry at %d has %d records", s.at, len(s.raw)/recordSize)
	}
	return nil
}

func (s *set) stream() []byte   { return s.raw[recordSize : 2*recordSize] }
func (s *set) directory() bool  { return s.raw[4]&attrDirectory != 0 }
func (s *set) first() int64     { return int64(le.Uint32(s.stream()[20:])) }
func (s *set) contiguous() bool { return s.stream()[1]&2 != 0 }
func (s *set) size() uint64     { return le.Uint64(s.stream()[24:]) }
func (s *set) valid() uint64    { return le.Uint64(s.stream()[8:]) }
func (s *set) time(at, ms, zone int) time.Time {
	v, extra := le.Uint32(s.raw[at:]), byte(0)
	if ms != 0 {
		extra = s.raw[ms]
	}
	t := dosTime(uint16(v>>16), uint16(v), extra)
	if z := s.raw[zone]; z&0x80 != 0 && !t.IsZero() {
		t = t.Add(-15 * time.Minute * time.Duration(int8(z<<1)>>1))
	}
	return t
}

func (s *set) name() string {
	var u []uint16
	for i := 2 * recordSize; i < len(s.raw); i += recordSize {
		if s.raw[i] == recName {
			u = append(u, units(s.raw[i+2:i+recordSize])...)
		}
	}
	return fsread.UTF16(u[:min(len(u), int(s.stream()[3]))])
}

// chainOf opens the clusters of a set.
func (f *ExFS) chainOf(s *set) (*chain, error) {
	if s.size() > uint64(f.clusters)*uint64(f.cluster) {
		return nil, fsread.Corrupt(f.layer, "the entry at %d says %d bytes", s.at, s.size())
	}
	return f.chainFrom(s.first(), int64(s.size()), s.contiguous())
}

// load reads the set of a file.
func (f *ExFS) load(id fsread.ID) (*set, error) {
	at := int64(id.Number &^ inOnePiece)
	rec, err := f.record(at)
	if err != nil {
		return nil, err
	}
	if rec[0] != recFile {
		return nil, fmt.Errorf("exfat: %d is no place of a file's entry", at)
	}
	s := &set{at: at, raw: rec}
	want := s.want()
	for len(s.raw) < want {
		if at += recordSize; (at-f.heap)%f.cluster == 0 && id.Number&inOnePiece == 0 {
			next, err := f.next((at-f.heap)/f.cluster + 1)
			if err != nil {
				return nil, err
			}
			if next == 0 {
				return nil, fsread.Corrupt(f.layer, "the entry at %d is cut off", s.at)
			}
			at = f.at(next)
		}
		if rec, err = f.record(at); err != nil {
			return nil, err
		}
		s.raw = append(s.raw, rec...)
	}
	return s, s.whole()
}

// Stat reads the entry of a file.
func (f *ExFS) Stat(id fsread.ID) (fsread.Stat, error) {
	if id == f.Root() {
		return fsread.Stat{Kind: fsread.Directory, Mode: 0o755, Links: 1, Invented: true}, nil
	}
	s, err := f.load(id)
	if err != nil {
		return fsread.Stat{}, err
	}
	st := fsread.Stat{
		ID: id, Kind: fsread.Regular, Mode: 0o755, Links: 1, Invented: true,
		Created: s.time(8, 20, 22), Modified: s.time(12, 21, 23), Accessed: s.time(16, 0, 24),
	}
	if s.raw[4]&attrReadOnly != 0 {
		st.Mode &^= 0o222
	}
	if s.directory() {
		st.Kind = fsread.Directory
		return st, nil
	}
	if _, err := f.chainOf(s); err != nil {
		return fsread.Stat{}, err
	}
	st.Size = int64(s.size())
	return st, nil
}

// Open opens a file.
func (f *ExFS) Open(id fsread.ID) (image.Image, error) {
	if id == f.Root() {
		return nil, fsread.ErrNotRegular
	}
	s, err := f.load(id)
	if err != nil {
		return nil, err
	}
	if s.directory() {
		return nil, fsread.ErrNotRegular
	}
	c, err := f.chainOf(s)
	if err != nil {
		return nil, err
	}
	size, valid := int64(s.size()), int64(min(s.valid(), s.size()))
	return fsread.NewFile(f.img, f.layer, size, func(off int64) (fsread.Run, error) {
		if off >= valid {
			return fsread.Run{Offset: valid, Length: size - valid, At: fsread.Hole}, nil
		}
		r, err := c.find(off)
		r.Length = min(r.Length, valid-r.Offset)
		return r, err
	}), nil
}

// ReadDir lists a directory.
func (f *ExFS) ReadDir(dir fsread.ID, each func(fsread.Entry) error) error {
	c, flag, err := f.directory(dir)
	if err != nil {
		return err
	}
	var s set
	return c.records(maxExDirectory, func(at int64, rec []byte) (bool, error) {
		switch {
		case rec[0] == 0:
			return false, nil
		case rec[0] == recFile:
			s = set{at: at, raw: append(s.raw[:0], rec...)}
		case len(s.raw) > 0 && rec[0]&0x80 != 0:
			s.raw = append(s.raw, rec...)
		default: // deleted, or not a file's
			s.raw = s.raw[:0]
		}
		if len(s.raw) == 0 || len(s.raw) < s.want() {
			return true, nil
		}
		err := s.whole()
		if err == nil && usable(s.name()) {
			e := fsread.Entry{Name: s.name(), ID: fsread.ID{Number: uint64(s.at) | flag}, Kind: fsread.Regular}
			if s.directory() {
				e.Kind = fsread.Directory
			}
			err = each(e)
		}
		s.raw = s.raw[:0]
		return true, err
	})
}

func (f *ExFS) directory(id fsread.ID) (c *chain, flag uint64, err error) {
	if id == f.Root() {
		c, err = f.chainFrom(f.root, 0, false)
		return c, 0, err
	}
	s, err := f.load(id)
	if err != nil {
		return nil, 0, err
	}
	if !s.directory() {
		return nil, 0, fsread.ErrNotDir
	}
	if s.contiguous() {
		flag = inOnePiece
	}
	c, err = f.chainOf(s)
	return c, flag, err
}

// Lookup finds a name, written exactly or in other case.
func (f *ExFS) Lookup(dir fsread.ID, name string) (fsread.Entry, error) {
	return fsread.LookupFolded(f, dir, name)
}

// Readlink refuses: there are no symbolic links.
func (f *ExFS) Readlink(fsread.ID) (string, error) { return "", errNoLinks }

// Xattrs are none.
func (f *ExFS) Xattrs(fsread.ID) ([]fsread.Xattr, error) { return nil, nil }
