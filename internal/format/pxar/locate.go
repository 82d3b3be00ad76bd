package pxar

import (
	"errors"
	"fmt"
	"io/fs"
)

// DirAt opens the directory whose end is all that is known of it, from the
// EndPos of a former use. Its entry has no Name, and its Offset is that of its
// ENTRY.
func (a *Archive) DirAt(end int64) (*Dir, error) {
	if end == a.root.e.EndPos {
		return a.root, nil
	}
	first := a.root.e.Body + HeaderSize + 2 // behind the first FILENAME
	if end < first+minDirectory || end > a.root.table {
		return nil, fmt.Errorf("%w: no directory can end at offset %d", ErrFormat, end)
	}
	t, err := a.tableBefore(first, end)
	if err != nil {
		return nil, err
	}
	if t.back > uint64(t.table-first) {
		return nil, fmt.Errorf("%w: offset %d: goodbye table leads back %d bytes", ErrFormat, t.table, t.back)
	}
	e := &Entry{Offset: t.table - int64(t.back), EndPos: end}
	if err := fileInput(a.r, e.Offset, end, fileAhead).entry(e, a.version); err != nil {
		return nil, err
	}
	if e.Kind != Directory || e.Body > t.table {
		return nil, fmt.Errorf("%w: offset %d: a goodbye table of a %s that ends at %d", ErrFormat, t.table, e.Kind, e.Body)
	}
	e.EndPos = end
	return a.dirWith(t, e, e.Offset, 1)
}

// PathAt returns the names that lead to the deepest entry that reaches over
// this offset. It looks through the tables of all directories above it.
func (a *Archive) PathAt(offset int64) (names []string, err error) {
	d := a.root
	for {
		e, l, err := d.before(offset)
		if errors.Is(err, fs.ErrNotExist) {
			return names, nil
		}
		if err != nil {
			return names, err
		}
		names = append(names, e.Name)
		if e.Kind != Directory || offset < e.Body {
			return names, nil
		}
		if err := d.setEnd(e, l.size); err != nil {
			return names, err
		}
		if offset >= e.EndPos {
			return names[:len(names)-1], nil
		}
		if d, err = d.Open(e); err != nil {
			return names, err
		}
	}
}

// before returns the child that begins last, at this offset or before it.
func (d *Dir) before(offset int64) (*Entry, line, error) {
	var best line
	const lines = topRead / lineSize
	for slot := int64(0); slot < d.n && offset < d.table; slot += lines {
		from := d.table + HeaderSize + slot*lineSize
		b, err := d.a.bytes(from, from+min(lines, d.n-slot)*lineSize)
		if err != nil {
			return nil, best, err
		}
		for ; len(b) > 0; b = b[lineSize:] {
			l := parseLine(b)
			start, err := d.childStart(l)
			if err != nil {
				return nil, best, err
			}
			if start <= offset && (best.back == 0 || l.back < best.back) {
				best = l
			}
		}
	}
	if best.back == 0 {
		return nil, best, fs.ErrNotExist
	}
	e, err := d.a.entryAt(fileInput(d.a.r, d.table-int64(best.back), d.table, fileAhead))
	return e, best, err
}
