package ntfs

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Attributes of files, as DOS has them.
const (
	fileReadOnly = 0x01
	fileSystem   = 0x04
)

// Stat reads the record of a file.
func (f *FS) Stat(id fsread.ID) (fsread.Stat, error) {
	r, err := f.load(id.Number)
	if err != nil {
		return fsread.Stat{}, err
	}
	st := fsread.Stat{
		ID: fsread.ID{Number: r.number | uint64(r.sequence)<<48}, Kind: fsread.Regular, Mode: 0o755, Invented: true,
	}
	if r.number == recRoot {
		st.ID = f.Root()
	}
	dos := f.times(r, &st)
	if dos&fileReadOnly != 0 {
		st.Mode &^= 0o222
	}
	for _, a := range r.attrs {
		if a.kind == typeName && !a.nonresident && len(a.value) >= 66 && a.value[65] != nameDOS {
			st.Links++
		}
	}
	st.Links = max(st.Links, 1)
	special, ok, err := f.special(r, dos)
	switch {
	case err != nil:
		return fsread.Stat{}, err
	case ok:
		st.Kind, st.Major, st.Minor, st.Size = special.kind, special.major, special.minor, int64(len(special.target))
	case r.directory():
		st.Kind, st.Links = fsread.Directory, 1
	default:
		if data := r.find(typeData, ""); len(data) > 0 {
			st.Size = data[0].size
		}
	}
	return st, nil
}

// times fills in the times, and returns the attributes that DOS has.
func (f *FS) times(r *record, st *fsread.Stat) uint32 {
	a := r.first(typeStandard)
	if a == nil || a.nonresident || len(a.value) < 36 {
		return 0
	}
	v := a.value
	st.Created, st.Modified, st.Changed, st.Accessed = filetime(v), filetime(v[8:]), filetime(v[16:]), filetime(v[24:])
	return le.Uint32(v[32:])
}

// filetime is 100 ns since 1601.
func filetime(b []byte) time.Time {
	const to1970 = 11644473600
	v := int64(le.Uint64(b))
	sec, rest := v/1e7, v%1e7
	if rest < 0 {
		sec, rest = sec-1, rest+1e7
	}
	return time.Unix(sec-to1970, rest*100).UTC()
}

// Open opens the nameless content of a file.
func (f *FS) Open(id fsread.ID) (image.Image, error) {
	r, err := f.load(id.Number)
	if err != nil {
		return nil, err
	}
	if _, ok, err := f.special(r, f.times(r, &fsread.Stat{})); err != nil {
		return nil, err
	} else if ok || r.directory() {
		return nil, fsread.ErrNotRegular
	}
	data := r.find(typeData, "")
	if p, ok := r.reparsePoint(); ok {
		if p.tag == tagWOF && len(data) > 0 {
			return f.wof(r, p, data[0].size)
		}
		return nil, p.refuse()
	}
	if len(data) == 0 {
		return resident(nil), nil
	}
	return f.stream(data, "the content of a file")
}

// Streams lists the contents with a name.
func (f *FS) Streams(id fsread.ID) ([]fsread.Stream, error) {
	r, err := f.load(id.Number)
	if err != nil {
		return nil, err
	}
	var all []fsread.Stream
	for _, a := range r.attrs {
		if a.kind == typeData && a.name != "" && a.first == 0 {
			all = append(all, fsread.Stream{Name: a.name, Size: a.size})
		}
	}
	slices.SortFunc(all, func(a, b fsread.Stream) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// OpenStream opens a content with a name.
func (f *FS) OpenStream(id fsread.ID, name string) (image.Image, error) {
	r, err := f.load(id.Number)
	if err != nil {
		return nil, err
	}
	data := r.find(typeData, name)
	if len(data) == 0 || name == "" {
		return nil, fsread.ErrNotExist
	}
	return f.stream(data, "a stream")
}

// Readlink reads the target of a link.
func (f *FS) Readlink(id fsread.ID) (string, error) {
	r, err := f.load(id.Number)
	if err != nil {
		return "", err
	}
	s, ok, err := f.special(r, f.times(r, &fsread.Stat{}))
	if err != nil {
		return "", err
	}
	if !ok || s.kind != fsread.Symlink {
		return "", fsread.ErrNotRegular
	}
	return s.target, nil
}

// Xattrs are none: what is like them are the streams.
func (f *FS) Xattrs(fsread.ID) ([]fsread.Xattr, error) { return nil, nil }
