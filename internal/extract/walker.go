package extract

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/exclude"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// Selection is a part of an archive.
type Selection struct {
	// Path is the entry that is the root of the part; "" or "/" is the whole. If
	// it is no directory, the part is a directory with nothing but this entry.
	Path string
	// Name is what an entry that is no directory is called in the part; "": as
	// in the archive.
	Name string
	// Patterns select by the path in the archive, with a leading slash. What a
	// directory is told counts for all below it, until another pattern matches.
	// Directories that are needed on the way belong to the part. nil: all.
	Patterns *exclude.List
	// Follow yields files in place of hard links.
	Follow bool
	// Metadata gives hard links the metadata of their files.
	Metadata bool
}

// Bounds of what a Walker holds.
const (
	maxCursors = 32      // of the directories that are open, each up to 128 KiB
	maxCopies  = 1 << 16 // hard links to one file outside of the part that are kept as such
)

// Walker is a [Source] that yields a part of an archive that can be read at any
// offset. It jumps over the contents that nobody reads. A hard link to a file
// outside of the part becomes that file, and further ones become links to it.
//
// An error of Read is about this one file, and Next goes on.
type Walker struct {
	a   *pxar.Archive
	sel Selection

	base   []string // the path of the root of the part
	frames []frame
	names  []string // of frames behind the first, and of the entry
	path   []byte   // the same as one path in the archive
	told   int      // frames that were yielded
	held   *pxar.Entry
	cur    *pxar.Entry // that Next returned last
	ended  bool
	single *pxar.Entry // the entry that is the part
	copies map[int64]first

	content *io.SectionReader
	err     error
}

// frame is an open directory.
type frame struct {
	e        *pxar.Entry
	dir      *pxar.Dir
	cursor   *pxar.Cursor // nil: to be opened again behind next
	next     int64
	selected bool
	path     int // length of Walker.path up to it
}

// first is the first hard link to a file outside of the part.
type first struct {
	offset int64
	path   string
}

// Walk returns a Walker for a part of an archive. A path that does not exist
// gives an error wrapping fs.ErrNotExist.
func Walk(a *pxar.Archive, sel Selection) (*Walker, error) {
	w := &Walker{a: a, sel: sel, copies: map[int64]first{}}
	root := a.Root()
	for name := range strings.SplitSeq(sel.Path, "/") {
		if name != "" && name != "." {
			w.base = append(w.base, name)
		}
	}
	selected := sel.Patterns == nil
	for i, name := range w.base {
		e, err := root.Lookup(name)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", pxar.Join(w.base[:i]), err)
		}
		w.path = append(append(w.path, '/'), name...)
		selected = w.selects(selected, w.path, e.Kind == pxar.Directory)
		if e.Kind == pxar.Directory {
			if root, err = root.Open(e); err != nil {
				return nil, err
			}
			continue
		}
		if i < len(w.base)-1 {
			return nil, fmt.Errorf("%s is no directory: %w", pxar.Join(w.base[:i+1]), fs.ErrNotExist)
		}
		return w, w.only(e, selected)
	}
	e := root.Entry()
	e.Name = ""
	w.frames = append(w.frames, frame{e: e, dir: root, selected: selected, path: len(w.path)})
	return w, nil
}

// only makes the part that of one entry.
func (w *Walker) only(e *pxar.Entry, selected bool) error {
	r, err := w.a.Resolve(e)
	if err != nil {
		return err
	}
	one := *r
	if one.Name = e.Name; w.sel.Name != "" {
		one.Name = w.sel.Name
	}
	w.single = &one
	root := &pxar.Entry{Kind: pxar.Directory, Metadata: pxar.Metadata{Mode: pxar.ModeDirectory | 0o755}}
	w.frames = append(w.frames, frame{e: root, selected: selected})
	return nil
}

// IsFile reports whether the part is a single entry that is no directory; its
// root has no metadata of the archive then, see [Options.KeepRoot].
func (w *Walker) IsFile() bool { return w.single != nil }

// selects decides about a path, given what its directory was told.
func (w *Walker) selects(above bool, path []byte, dir bool) bool {
	switch w.sel.Patterns.Match(path, dir) {
	case exclude.Include:
		return true
	case exclude.Exclude:
		return false
	}
	return above
}

// Path returns the names that lead to the entry that Next returned last. It is
// valid until the next call of Next.
func (w *Walker) Path() []string { return w.names }

// Next returns the next entry, see [Source].
func (w *Walker) Next() (*pxar.Entry, error) {
	if w.err != nil {
		return nil, w.err
	}
	w.cur, w.content = nil, nil
	e, err := w.next()
	if err != nil {
		w.err = err
		return nil, err
	}
	w.cur = e
	return e, nil
}

func (w *Walker) next() (*pxar.Entry, error) {
	if w.ended {
		return nil, io.EOF
	}
	if w.told == 0 { // the root is always there
		return w.tell()
	}
	for {
		if w.held != nil || w.told < len(w.frames) && w.frames[len(w.frames)-1].selected {
			return w.tell()
		}
		e, err := w.advance()
		if e != nil || err != nil {
			return e, err
		}
	}
}

// tell yields the next directory that was not, and then what is held.
func (w *Walker) tell() (*pxar.Entry, error) {
	if w.told < len(w.frames) {
		w.told++
		w.names = w.names[:0]
		for _, f := range w.frames[1:w.told] {
			w.names = append(w.names, f.e.Name)
		}
		return w.frames[w.told-1].e, nil
	}
	e := w.held
	w.held = nil
	w.names = w.names[:0]
	for _, f := range w.frames[1:] {
		w.names = append(w.names, f.e.Name)
	}
	w.names = append(w.names, e.Name)
	return e, nil
}

// advance goes one entry on. It returns an End, or nil where something is to be
// told or nothing was selected.
func (w *Walker) advance() (*pxar.Entry, error) {
	top := &w.frames[len(w.frames)-1]
	e, err := w.child(top)
	if errors.Is(err, io.EOF) {
		return w.leave(), nil
	}
	if err != nil {
		return nil, err
	}
	w.path = append(append(w.path[:top.path], '/'), e.Name...)
	selected := w.single != nil && top.selected || w.single == nil && w.selects(top.selected, w.path, e.Kind == pxar.Directory)
	switch {
	case e.Kind == pxar.Directory:
		d, err := top.dir.Open(e)
		if err != nil {
			return nil, err
		}
		w.frames = append(w.frames, frame{e: e, dir: d, selected: selected, path: len(w.path)})
		if n := len(w.frames) - maxCursors; n >= 0 {
			w.frames[n].cursor = nil
		}
	case selected && e.Kind == pxar.Hardlink:
		w.held, err = w.link(e)
		return nil, err
	case selected:
		w.held = e
	}
	return nil, nil
}

// child reads the next entry of a directory.
func (w *Walker) child(f *frame) (e *pxar.Entry, err error) {
	if f.dir == nil { // of a single entry
		if f.next > 0 {
			return nil, io.EOF
		}
		f.next = 1
		return w.single, nil
	}
	if f.cursor == nil {
		if f.cursor, err = f.dir.Cursor(f.next); err != nil {
			return nil, err
		}
	}
	if e, err = f.cursor.Next(); err == nil {
		f.next = e.EndPos
	}
	return e, err
}

// leave ends the directory; nil if it was never yielded.
func (w *Walker) leave() *pxar.Entry {
	n := len(w.frames) - 1
	f := w.frames[n]
	w.frames = w.frames[:n]
	told := w.told > n
	w.told = min(w.told, n)
	end := &pxar.Entry{Name: f.e.Name, Kind: pxar.End, Offset: f.e.Offset, Body: f.e.Body, EndPos: f.e.EndPos}
	w.ended = n == 0
	if !told {
		return nil
	}
	w.names = w.names[:0]
	for _, f := range w.frames[min(1, n):] {
		w.names = append(w.names, f.e.Name)
	}
	if n > 0 {
		w.names = append(w.names, f.e.Name)
	}
	return end
}

// link returns what stands in the part for a hard link of the archive.
func (w *Walker) link(e *pxar.Entry) (*pxar.Entry, error) {
	names, err := pxar.SplitTarget(e.Target)
	if err != nil {
		return nil, err
	}
	within := !w.sel.Follow && w.has(names)
	before, again := w.copies[e.Link]
	var r *pxar.Entry
	if w.sel.Metadata || !within && !again {
		if r, err = w.a.Resolve(e); err != nil {
			return nil, err
		}
	}
	if within || again {
		if w.sel.Metadata {
			e.Metadata = r.Metadata
		}
		if within {
			e.Target = pxar.Join(names[len(w.base):])[1:]
		} else {
			e.Target, e.Link = before.path, before.offset
		}
		return e, nil
	}
	file := *r
	file.Name, file.Offset = e.Name, e.Offset
	if !w.sel.Follow && len(w.copies) < maxCopies {
		path := string(w.path[w.frames[0].path+1:])
		if len(path) <= pxar.MaxName {
			w.copies[e.Link] = first{e.Offset, path}
		}
	}
	return &file, nil
}

// has reports whether the path of a file leads into the part.
func (w *Walker) has(names []string) bool {
	if len(names) <= len(w.base) {
		return false
	}
	for i, name := range w.base {
		if names[i] != name {
			return false
		}
	}
	if w.sel.Patterns == nil {
		return true
	}
	selected := false
	var path []byte
	for i, name := range names {
		path = append(append(path, '/'), name...)
		selected = w.selects(selected, path, i < len(names)-1)
	}
	return selected
}

// Read reads the content of the file that Next returned last.
func (w *Walker) Read(p []byte) (int, error) {
	if w.content == nil {
		if w.cur == nil || w.cur.Kind != pxar.File {
			return 0, io.EOF
		}
		s, err := w.a.Content(w.cur)
		if err != nil {
			return 0, err
		}
		w.content = s
	}
	return w.content.Read(p)
}
