// Package treestream makes a part of a file system that is read in user space
// what an archive is: a source of entries, for a directory, a tar, a zip or a
// pxar stream.
//
// A file with several names comes once; further names of it in this part are
// hard links to the first. Of extended attributes those come that archives hold.
// Files that cannot be read are left out or end it, as the caller says: an error
// of a single file's content is an error of Read, and Next goes on.
//
// # Memory
//
// The names of the directories on the path, sorted, and 32 bytes and the path for
// each file with several names. A directory whose names take more than
// [MaxDirectory] is an error.
package treestream

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/filemeta"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Bounds against file systems without end.
const (
	MaxDirectory = 256 << 20 // bytes of names with their entries in directories that are open
	entryCost    = 64
)

// ErrTooLarge is a directory with more names than fit into memory.
var ErrTooLarge = errors.New("the directory has too many names")

// Options say what a source yields.
type Options struct {
	// Name is what a part that is no directory is called; "": Target's own name.
	Name string
	// Follow yields files in place of hard links, Metadata gives hard links the
	// metadata of their files.
	Follow, Metadata bool
	// Problem hears of entries that are left out because they cannot be read; an
	// error that it returns ends everything. nil: the first one does.
	Problem func(path string, err error) error
}

// Source yields the entries below one file, see extract.Source.
type Source struct {
	fs     fsread.FS
	o      Options
	single bool

	frames []frame
	names  []string
	links  map[fsread.ID]first
	held   int   // bytes of names in frames
	told   int64 // entries

	pending *fsread.Entry // to be told next; the root at first
	content io.Reader
	err     error
}

// first is the first name of a file with several.
type first struct {
	path string
	at   int64 // Offset of its entry, which is its number here
}

type frame struct {
	entries []fsread.Entry // those that come
	cost    int
}

// New makes a source of target, which was found under the name that it has, or
// is a root and has none.
func New(f fsread.FS, target fsread.Entry, o Options) (*Source, error) {
	st, err := f.Stat(target.ID)
	if err != nil {
		return nil, err
	}
	s := &Source{fs: f, o: o, links: map[fsread.ID]first{}, pending: &target}
	if st.Kind != fsread.Directory {
		if o.Name != "" {
			target.Name = o.Name
		}
		s.single = true
		s.frames = []frame{{entries: []fsread.Entry{target}}}
	}
	return s, nil
}

// IsFile reports whether the part is a single entry that is no directory.
func (s *Source) IsFile() bool { return s.single }

// Path leads to the entry that Next returned last.
func (s *Source) Path() []string { return s.names }

// Read reads the content of the file that Next returned last.
func (s *Source) Read(p []byte) (int, error) {
	if s.content == nil {
		return 0, io.EOF
	}
	return s.content.Read(p)
}

// Next returns the next entry.
func (s *Source) Next() (*pxar.Entry, error) {
	if s.err != nil {
		return nil, s.err
	}
	s.content = nil
	e, err := s.next()
	if err != nil {
		s.err = err
	}
	return e, err
}

func (s *Source) next() (*pxar.Entry, error) {
	if root := s.pending; root != nil {
		s.pending = nil
		if s.single {
			return &pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}}, nil
		}
		return s.entry(fsread.Entry{ID: root.ID})
	}
	for len(s.frames) > 0 {
		top := &s.frames[len(s.frames)-1]
		s.names = s.names[:len(s.frames)-1]
		if len(top.entries) == 0 {
			s.held -= top.cost
			s.frames = s.frames[:len(s.frames)-1]
			return &pxar.Entry{Kind: pxar.End}, nil
		}
		e := top.entries[0]
		top.entries = top.entries[1:]
		s.names = append(s.names, e.Name)
		out, err := s.entry(e)
		if err == nil {
			return out, nil
		}
		if s.o.Problem == nil {
			return nil, fmt.Errorf("%s: %w", pxar.Join(s.names), err)
		}
		if err := s.o.Problem(pxar.Join(s.names), err); err != nil {
			return nil, err
		}
	}
	return nil, io.EOF
}

// entry makes what an archive has of a file, and opens its content, or the list
// of its names.
func (s *Source) entry(e fsread.Entry) (*pxar.Entry, error) {
	st, err := s.fs.Stat(e.ID)
	if err != nil {
		return nil, err
	}
	s.told++
	out := &pxar.Entry{Name: e.Name, Offset: s.told}
	kind, ok := kinds[st.Kind]
	if !ok {
		return nil, errors.New("a file of unknown kind")
	}
	out.Kind = kind.kind
	if st.Kind == fsread.Regular && st.Links > 1 && !s.o.Follow {
		if first, ok := s.links[st.ID]; ok {
			if out.Kind, out.Target, out.Link = pxar.Hardlink, first.path, first.at; s.o.Metadata {
				out.Metadata, err = s.metadata(st)
			}
			return out, err
		}
	}
	if out.Metadata, err = s.metadata(st); err != nil {
		return nil, err
	}
	switch st.Kind {
	case fsread.Directory:
		err = s.enter(e.ID)
	case fsread.Symlink:
		out.Target, err = s.fs.Readlink(st.ID)
	case fsread.CharDevice, fsread.BlockDevice:
		out.Device = pxar.Device{Major: uint64(st.Major), Minor: uint64(st.Minor)}
	case fsread.Regular:
		err = s.open(st, out)
	}
	if err != nil {
		return nil, err
	}
	if st.Kind == fsread.Regular && st.Links > 1 {
		s.links[st.ID] = first{strings.Join(s.names, "/"), out.Offset}
	}
	return out, nil
}

func (s *Source) open(st fsread.Stat, out *pxar.Entry) error {
	img, err := s.fs.Open(st.ID)
	if err != nil {
		return err
	}
	out.Size = img.Size()
	s.content = newReader(img)
	return nil
}

func (s *Source) enter(dir fsread.ID) error {
	var f frame
	err := s.fs.ReadDir(dir, func(e fsread.Entry) error {
		f.cost += entryCost + len(e.Name)
		if s.held+f.cost > MaxDirectory {
			return ErrTooLarge
		}
		f.entries = append(f.entries, e)
		return nil
	})
	if err != nil {
		return err
	}
	if len(s.frames) >= pxar.MaxDepth {
		return fmt.Errorf("more than %d directories in each other", pxar.MaxDepth)
	}
	slices.SortFunc(f.entries, func(a, b fsread.Entry) int { return strings.Compare(a.Name, b.Name) })
	f.entries = slices.CompactFunc(f.entries, func(a, b fsread.Entry) bool { return a.Name == b.Name })
	s.held += f.cost
	s.frames = append(s.frames, f)
	return nil
}

func (s *Source) metadata(st fsread.Stat) (pxar.Metadata, error) {
	m := pxar.Metadata{
		Mode: kinds[st.Kind].bits | st.Mode, UID: st.UID, GID: st.GID,
		Mtime: pxar.Time{Sec: st.Modified.Unix(), Nsec: uint32(st.Modified.Nanosecond())},
	}
	if st.Kind != fsread.Directory && st.Kind != fsread.Regular {
		return m, nil // as a backup of the kernel's view, which opens no others
	}
	attrs, err := s.fs.Xattrs(st.ID)
	if err != nil {
		return m, err
	}
	for _, x := range attrs {
		if !filemeta.Kept(x.Name) {
			continue
		}
		if err := filemeta.Add(&m, x.Name, x.Value); err != nil {
			return m, err
		}
	}
	return m, nil
}

// kinds are those of archives, with the type bits of their modes.
var kinds = map[fsread.Kind]struct {
	kind pxar.Kind
	bits uint32
}{
	fsread.Directory:   {pxar.Directory, pxar.ModeDirectory},
	fsread.Regular:     {pxar.File, pxar.ModeFile},
	fsread.Symlink:     {pxar.Symlink, pxar.ModeSymlink},
	fsread.CharDevice:  {pxar.CharDevice, pxar.ModeCharDevice},
	fsread.BlockDevice: {pxar.BlockDevice, pxar.ModeBlockDevice},
	fsread.FIFO:        {pxar.FIFO, pxar.ModeFIFO},
	fsread.Socket:      {pxar.Socket, pxar.ModeSocket},
}

// newReader reads img in a row. Zeros that extents promise are not fetched.
func newReader(img image.Image) io.Reader { return &reader{img: img} }

type reader struct {
	img image.Image
	off int64
	ext image.Extent
}

func (r *reader) Read(p []byte) (int, error) {
	left := r.img.Size() - r.off
	if left == 0 {
		return 0, io.EOF
	}
	if r.off >= r.ext.End() {
		e, err := image.ExtentAt(r.img, r.off)
		if err != nil {
			return 0, err
		}
		r.ext = e
	}
	p = p[:min(int64(len(p)), left, r.ext.End()-r.off)]
	if r.ext.Kind == image.Zero {
		clear(p)
		r.off += int64(len(p))
		return len(p), nil
	}
	n, err := r.img.ReadAt(p, r.off)
	r.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}
