package pxar

import (
	"fmt"
	"io/fs"
	"sync/atomic"
)

// Dir is a directory of an [Archive] whose goodbye table has been found.
type Dir struct {
	a     *Archive
	e     Entry
	depth int
	table int64 // position of the GOODBYE item
	n     int64 // children that it lists
	cache atomic.Pointer[[]byte]
}

// Bounds of what is read of a table at once. Its start is the top of the tree,
// where every search begins.
const (
	tailRead = 4 << 10
	topRead  = 64 << 10 // whole lines of it
)

// maxEqual bounds how many names with equal hashes a lookup compares. The key
// of the hash is public, but even so nobody finds this many.
const maxEqual = 64

// OpenDir opens a directory whose Offset and EndPos are known from a former
// use of the same archive; only they are used of e. Normally it is [Dir.Open].
func (a *Archive) OpenDir(e *Entry) (*Dir, error) {
	if e.Offset == a.root.e.Offset {
		return a.root, nil
	}
	fresh, err := a.EntryAt(e.Offset)
	if err != nil {
		return nil, err
	}
	fresh.EndPos = e.EndPos
	return a.root.Open(fresh)
}

// openDir finds the goodbye table of e, which ends with e.
func (a *Archive) openDir(e *Entry, depth int) (*Dir, error) {
	if depth > MaxDepth {
		return nil, fmt.Errorf("%w: offset %d: more than %d directories in each other", ErrFormat, e.Offset, MaxDepth)
	}
	if e.Kind != Directory || e.EndPos-e.Body < minGoodbye {
		return nil, fmt.Errorf("%w: offset %d: %s ends at %d, which is too early", ErrFormat, e.Offset, e, e.EndPos)
	}
	entry := e.Offset
	if depth > 0 {
		entry += HeaderSize + int64(len(e.Name)) + 1
	}
	t, err := a.tableBefore(e.Body, e.EndPos)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e, err)
	}
	return a.dirWith(t, e, entry, depth)
}

// tail is the end of a directory, with its own line of the goodbye table.
type tail struct {
	line
	table int64  // position of the GOODBYE item
	b     []byte // the bytes up to the end, tailRead of them or all
}

// tableBefore reads the end of a goodbye table that ends at end and has nothing
// before body.
func (a *Archive) tableBefore(body, end int64) (tail, error) {
	b, err := a.bytes(max(body, end-tailRead), end)
	if err != nil {
		return tail{}, err
	}
	t := tail{line: parseLine(b[len(b)-lineSize:]), b: b}
	if t.hash != goodbyeTail || t.size < minGoodbye || t.size > uint64(end-body) || (t.size-HeaderSize)%lineSize != 0 {
		return tail{}, fmt.Errorf("%w: no goodbye table ends at offset %d", ErrFormat, end)
	}
	t.table = end - int64(t.size)
	return t, nil
}

// dirWith makes a directory whose ENTRY is at entry, after a look at its table.
func (a *Archive) dirWith(t tail, e *Entry, entry int64, depth int) (*Dir, error) {
	d := &Dir{a: a, e: *e, depth: depth, table: t.table}
	d.n = int64(t.size-minGoodbye) / lineSize
	whole := uint64(len(t.b)) >= t.size
	var head []byte
	if whole {
		head = t.b[len(t.b)-int(t.size):]
	} else {
		var err error
		if head, err = a.bytes(d.table, d.table+HeaderSize); err != nil {
			return nil, err
		}
	}
	it := item{Type(le.Uint64(head)), int64(t.size - HeaderSize), d.table}
	if it.typ != TypeGoodbye || le.Uint64(head[8:]) != t.size {
		return nil, it.bad("where the goodbye table of %.80q is expected", e.Name)
	}
	if err := it.checkTail(t.line, entry, depth == 0); err != nil {
		return nil, err
	}
	if whole {
		top := head[HeaderSize : len(head)-lineSize]
		d.cache.Store(&top)
	}
	return d, nil
}

// bytes reads from one offset to another; the caller bounds the difference.
func (a *Archive) bytes(from, to int64) ([]byte, error) {
	in := fileInput(a.r, from, to, int(to-from))
	b, err := in.next(int(to - from))
	return b, err
}

// Entry returns the directory as an entry.
func (d *Dir) Entry() *Entry {
	e := d.e
	return &e
}

// Len is the number of entries that the directory says it has.
func (d *Dir) Len() int64 { return d.n }

// Open opens a directory that Lookup or Entries of d returned.
func (d *Dir) Open(e *Entry) (*Dir, error) {
	if e.Offset < d.e.Body || e.EndPos > d.table || e.Body <= e.Offset {
		return nil, fmt.Errorf("%w: %s at [%d,%d) is not within %s", ErrFormat, e, e.Offset, e.EndPos, &d.e)
	}
	return d.a.openDir(e, d.depth+1)
}

// Lookup finds the entry with this name.
func (d *Dir) Lookup(name string) (*Entry, error) {
	if problem := checkName(name); problem != "" {
		return nil, fmt.Errorf("%w: %s", fs.ErrInvalid, problem)
	}
	var found *Entry
	err := d.search(NameHash(name), func(l line) (bool, error) {
		start, err := d.childStart(l)
		if err != nil {
			return false, err
		}
		in := fileInput(d.a.r, start, d.table, fileAhead)
		if same, err := in.named(name); err != nil || !same {
			return false, err
		}
		if found, err = d.a.entryAt(in); err == nil && found.Kind == Directory {
			err = d.setEnd(found, l.size)
		}
		return true, err
	})
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, fmt.Errorf("%.80q: %w", name, fs.ErrNotExist)
	}
	return found, nil
}

// named reports whether the FILENAME at the position is this one.
func (in *input) named(name string) (bool, error) {
	it, err := in.item()
	if err != nil {
		return false, in.within(err)
	}
	if it.typ != TypeFilename {
		return false, it.bad("where a FILENAME is expected")
	}
	if it.size != int64(len(name))+1 {
		return false, nil
	}
	b, err := in.peek(HeaderSize + len(name))
	if err != nil {
		return false, in.within(err)
	}
	return string(b[HeaderSize:]) == name, nil
}

func (d *Dir) childStart(l line) (int64, error) {
	if l.back == 0 || l.back > uint64(d.table-d.e.Body) {
		return 0, fmt.Errorf("%w: offset %d: goodbye table leads back %d bytes, its directory has %d", ErrFormat, d.table, l.back, d.table-d.e.Body)
	}
	return d.table - int64(l.back), nil
}

// setEnd sets where a child that is a directory ends.
func (d *Dir) setEnd(e *Entry, size uint64) error {
	if size > uint64(d.table-e.Offset) || int64(size) < e.Body-e.Offset+minGoodbye {
		return fmt.Errorf("%w: offset %d: %s cannot have %d bytes", ErrFormat, e.Offset, e, size)
	}
	e.EndPos = e.Offset + int64(size)
	return nil
}

// search calls f for the lines with this hash until it says true. Slots only
// grow, so that no table can make it loop.
func (d *Dir) search(hash uint64, f func(line) (bool, error)) error {
	todo := []int64{0}
	for equal := 0; len(todo) > 0; {
		slot := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for slot < d.n {
			l, err := d.line(slot)
			if err != nil {
				return err
			}
			switch {
			case hash < l.hash:
				slot = 2*slot + 1
				continue
			case hash > l.hash:
				slot = 2*slot + 2
				continue
			}
			if done, err := f(l); done || err != nil {
				return err
			}
			if equal++; equal > maxEqual {
				return fmt.Errorf("%w: offset %d: goodbye table with more than %d names of one hash", ErrFormat, d.table, maxEqual)
			}
			todo = append(todo, 2*slot+2)
			slot = 2*slot + 1
		}
	}
	return nil
}

// line reads a line of the table.
func (d *Dir) line(slot int64) (line, error) {
	top := d.cache.Load()
	first := d.table + HeaderSize
	if top == nil {
		n := min(d.n, topRead/lineSize)
		b, err := d.a.bytes(first, first+n*lineSize)
		if err != nil {
			return line{}, err
		}
		top = &b
		d.cache.Store(top)
	}
	if off := slot * lineSize; off < int64(len(*top)) {
		return parseLine((*top)[off:]), nil
	}
	b, err := d.a.bytes(first+slot*lineSize, first+(slot+1)*lineSize)
	if err != nil {
		return line{}, err
	}
	return parseLine(b), nil
}
