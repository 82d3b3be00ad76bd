package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
)

// Entry is one name in a directory.
type Entry struct {
	Kind  Kind
	Name  string // of any bytes; "" for the root
	Size  uint64 // of a File in bytes
	Mtime int64  // of a File, seconds since 1970

	block, limit int64 // of a Dir: where its block begins, and what it ends before
}

// IsDir reports whether the entry is a directory.
func (e Entry) IsDir() bool { return e.Kind == Dir }

// Reader reads a catalog through an [io.ReaderAt]. It is safe for concurrent use
// if that is.
type Reader struct {
	r    io.ReaderAt
	end  int64 // of the blocks
	root Entry
}

// Open reads head and end of a catalog of size bytes. It keeps r.
func Open(r io.ReaderAt, size int64) (*Reader, error) {
	least := int64(len(magic) + 2 + pointerSize) // with an empty root
	if size < least || size > maxSize {
		return nil, fmt.Errorf("%w: a file of %d bytes", ErrFormat, size)
	}
	var head [len(magic)]byte
	if err := readFull(r, head[:], 0); err != nil {
		return nil, err
	}
	if head != magic {
		return nil, fmt.Errorf("%w: magic %x", ErrFormat, head)
	}
	var tail [pointerSize]byte
	end := size - pointerSize
	if err := readFull(r, tail[:], end); err != nil {
		return nil, err
	}
	root := binary.LittleEndian.Uint64(tail[:])
	if root < uint64(len(magic)) || root >= uint64(end) {
		return nil, fmt.Errorf("%w: the root at offset %d of %d bytes", ErrFormat, root, size)
	}
	return &Reader{r, end, Entry{Kind: Dir, block: int64(root), limit: end}}, nil
}

// Root returns the directory of all archives.
func (c *Reader) Root() Entry { return c.root }

func (c *Reader) open(p *pages, dir Entry) (cursor, error) {
	if !dir.IsDir() || dir.block == 0 || dir.limit > c.end {
		return cursor{}, fmt.Errorf("catalog: %.80q is no directory of it", dir.Name)
	}
	return openBlock(p, dir.block, dir.limit)
}

// List yields the entries of a directory in the order of the archive, and an
// error at most once, as the last.
func (c *Reader) List(dir Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		p := &pages{r: c.r, end: c.end}
		block, err := c.open(p, dir)
		for err == nil {
			var e Entry
			var ok bool
			if e, ok, err = block.next(); err == nil && !ok {
				return
			}
			e.Name = string(p.name)
			if err == nil && !yield(e, nil) {
				return
			}
		}
		yield(Entry{}, err)
	}
}

// Lookup finds a path below dir. Slashes at its ends and doubled ones do not
// count. Where a name is there twice, the first is found.
func (c *Reader) Lookup(dir Entry, path string) (Entry, error) {
	p := &pages{r: c.r, end: c.end}
	at := dir
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		found, err := c.child(p, at, name)
		if err != nil {
			return Entry{}, fmt.Errorf("look up %q: %w", path, err)
		}
		at = found
	}
	return at, nil
}

func (c *Reader) child(p *pages, dir Entry, name string) (Entry, error) {
	if !dir.IsDir() {
		return Entry{}, fmt.Errorf("%q: %w: it is a %s, not a directory", dir.Name, fs.ErrNotExist, dir.Kind)
	}
	block, err := c.open(p, dir)
	if err != nil {
		return Entry{}, err
	}
	for {
		e, ok, err := block.next()
		if err != nil {
			return Entry{}, err
		}
		if !ok {
			return Entry{}, fmt.Errorf("%q: %w", name, fs.ErrNotExist)
		}
		if string(p.name) == name {
			e.Name = name
			return e, nil
		}
	}
}

// Walk calls f for everything below dir, each directory before what it holds,
// with its path from dir, which begins with "/" and belongs to f for the time of
// the call. f returns [fs.SkipDir] for a directory that is not to be entered, or
// for another entry to leave the directory it is in, and [fs.SkipAll] to stop; any
// other error ends the walk and is returned.
func (c *Reader) Walk(dir Entry, f func(path []byte, e Entry) error) error {
	p := &pages{r: c.r, end: c.end}
	budget := c.end - int64(len(magic)) // bytes of blocks: each is there once
	var stack []cursor
	var path []byte
	enter := func(d Entry) error {
		block, err := c.open(p, d)
		if err != nil {
			return err
		}
		if budget -= block.end - block.start; budget < 0 {
			return fmt.Errorf("%w: directory %.80q is reached more than once", ErrFormat, path)
		}
		stack = append(stack, block)
		return nil
	}
	if err := enter(dir); err != nil {
		return err
	}
	for len(stack) > 0 {
		block := &stack[len(stack)-1]
		e, ok, err := block.next()
		if err != nil {
			return err
		}
		above := len(path)
		if ok {
			path = append(append(path, '/'), p.name...)
			e.Name = string(p.name)
			err = f(path, e)
		}
		switch {
		case !ok, errors.Is(err, fs.SkipDir) && !e.IsDir():
			stack = stack[:len(stack)-1]
			path = path[:max(bytes.LastIndexByte(path[:above], '/'), 0)]
		case errors.Is(err, fs.SkipAll):
			return nil
		case err != nil && !errors.Is(err, fs.SkipDir):
			return err
		case err != nil || !e.IsDir():
			path = path[:above]
		case len(path) > MaxPath:
			return fmt.Errorf("%w: a path has more than %d bytes", ErrFormat, MaxPath)
		default:
			block.pause()
			if err := enter(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Found is an entry with its path.
type Found struct {
	Path string // from where the search began, begins with "/"
	Entry
}

// Find yields everything below dir that match says yes to, in the order of Walk,
// and an error at most once, as the last.
func (c *Reader) Find(dir Entry, match func(path []byte, dir bool) bool) iter.Seq2[Found, error] {
	return func(yield func(Found, error) bool) {
		err := c.Walk(dir, func(path []byte, e Entry) error {
			if match(path, e.IsDir()) && !yield(Found{string(path), e}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(Found{}, err)
		}
	}
}
