package browse

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// inArchive reads a file archive.
type inArchive struct{ *pxar.Archive }

func ofArchive(f *pxar.Entry) Entry {
	return Entry{Name: f.Name, Kind: f.Kind, Size: uint64(f.Size), Mtime: f.Mtime, File: f}
}

func (a inArchive) list(dir *Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		d, err := a.OpenDir(dir.File)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		for f, err := range d.Entries() {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if !yield(ofArchive(f), nil) {
				return
			}
		}
	}
}

func (a inArchive) child(dir *Entry, name string) (Entry, error) {
	d, err := a.OpenDir(dir.File)
	if err != nil {
		return Entry{}, err
	}
	f, err := d.Lookup(name)
	if errors.Is(err, fs.ErrInvalid) { // no archive can hold it
		err = fs.ErrNotExist
	}
	if err != nil {
		return Entry{}, err
	}
	return ofArchive(f), nil
}

func (a inArchive) target(e *Entry) (Entry, error) {
	f, err := a.Resolve(e.File)
	if err != nil {
		return Entry{}, err
	}
	return ofArchive(f), nil
}

// maxWarm is how many of the deepest directories of a walk keep what they have
// read.
const maxWarm = 8

// level is an open directory of a walk.
type level struct {
	offset, end int64        // of the directory
	next        int64        // where it goes on, 0: at its first entry
	path        int          // length of its path
	at          *pxar.Cursor // nil: to be opened
	dir         *pxar.Dir    // nil: to be opened
}

func (a inArchive) walk(dir *Entry, base []byte, f Func) error {
	path := base
	stack := []level{{offset: dir.File.Offset, end: dir.File.EndPos, path: len(path)}}
	for len(stack) > 0 {
		l := &stack[len(stack)-1]
		e, err := a.next(l)
		if errors.Is(err, io.EOF) {
			stack = stack[:len(stack)-1]
			continue
		}
		if err != nil {
			return err
		}
		path = append(append(path[:l.path], '/'), e.Name...)
		entry := ofArchive(e)
		switch err := f(path, &entry); {
		case errors.Is(err, fs.SkipAll):
			return nil
		case errors.Is(err, fs.SkipDir) && !entry.IsDir():
			stack = stack[:len(stack)-1]
			continue
		case errors.Is(err, fs.SkipDir), err == nil && !entry.IsDir():
			continue
		case err != nil:
			return err
		}
		if len(path) > MaxPath {
			return fmt.Errorf("%w: a path has more than %d bytes", pxar.ErrFormat, MaxPath)
		}
		if len(stack) > pxar.MaxDepth {
			return fmt.Errorf("%w: more than %d directories in each other", pxar.ErrFormat, pxar.MaxDepth)
		}
		inner, err := l.dir.Open(e)
		if err != nil {
			return err
		}
		stack = append(stack, level{offset: e.Offset, end: e.EndPos, path: len(path), dir: inner})
		if cold := len(stack) - 1 - maxWarm; cold >= 0 {
			stack[cold].dir, stack[cold].at = nil, nil
		}
	}
	return nil
}

// next returns the next entry of a directory, behind the last one io.EOF.
func (a inArchive) next(l *level) (e *pxar.Entry, err error) {
	if l.dir == nil {
		if l.dir, err = a.OpenDir(&pxar.Entry{Offset: l.offset, EndPos: l.end}); err != nil {
			return nil, err
		}
	}
	if l.at == nil {
		if l.at, err = l.dir.Cursor(l.next); err != nil {
			return nil, err
		}
	}
	if e, err = l.at.Next(); err == nil {
		l.next = e.EndPos
	}
	return e, err
}
