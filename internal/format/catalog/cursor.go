package catalog

import (
	"fmt"
	"io"
)

const (
	pageSize = 16 << 10
	maxPages = 16
)

// pages is a small cache of a file, for the time of one operation: a walk goes
// to and fro between parents and children.
type pages struct {
	r     io.ReaderAt
	end   int64 // of what may be read
	held  []page
	clock uint64
	name  []byte // of the entry that was read last
}

type page struct {
	base int64
	used uint64
	b    []byte
}

// at returns the page that holds the byte at off, and where that page begins. It
// is valid until the next call.
func (p *pages) at(off int64) ([]byte, int64, error) {
	base := off &^ (pageSize - 1)
	p.clock++
	oldest := 0
	for i := range p.held {
		if p.held[i].base == base {
			p.held[i].used = p.clock
			return p.held[i].b, base, nil
		}
		if p.held[i].used < p.held[oldest].used {
			oldest = i
		}
	}
	if len(p.held) < maxPages {
		oldest = len(p.held)
		p.held = append(p.held, page{b: make([]byte, 0, pageSize)})
	}
	slot := &p.held[oldest]
	slot.base, slot.used = -1, p.clock
	slot.b = slot.b[:min(pageSize, p.end-base)]
	if err := readFull(p.r, slot.b, base); err != nil {
		return nil, 0, err
	}
	slot.base = base
	return slot.b, base, nil
}

func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF { //nolint:errorlint // ReaderAt returns it bare
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read catalog: %d bytes at offset %d: %w", len(b), off, err)
}

// cursor reads the entries of one block.
type cursor struct {
	pages *pages
	start int64 // of the block
	pos   int64
	end   int64 // of the block
	left  uint64

	near []byte // the page around pos
	base int64  // where it begins
}

// openBlock reads the head of the block at start, which lies before limit.
func openBlock(p *pages, start, limit int64) (cursor, error) {
	c := cursor{pages: p, start: start, pos: start, end: limit}
	length, err := c.unsigned()
	switch {
	case err != nil:
		return c, c.wrap(err)
	case length == 0:
		return c, c.wrap(fmt.Errorf("%w: its table is empty", ErrFormat))
	case length > uint64(limit-c.pos):
		return c, c.wrap(fmt.Errorf("%w: its table of %d bytes is not before %d", ErrFormat, length, limit))
	}
	c.end = c.pos + int64(length)
	if c.left, err = c.unsigned(); err != nil {
		return c, c.wrap(err)
	}
	const least = 3 // bytes of an entry: kind, length, name
	if c.left > uint64(c.end-c.pos)/least {
		return c, c.wrap(fmt.Errorf("%w: %d entries in %d bytes", ErrFormat, c.left, c.end-c.pos))
	}
	return c, nil
}

// pause gives up the page, before another cursor uses the cache.
func (c *cursor) pause() { c.near = nil }

// next reads an entry and leaves its name in c.pages.name; false is the end of
// the block. An entry without a name is passed over.
func (c *cursor) next() (Entry, bool, error) {
	for c.left > 0 {
		c.left--
		e, err := c.entry()
		if err != nil {
			return Entry{}, false, c.wrap(err)
		}
		if len(c.pages.name) > 0 {
			return e, true, nil
		}
	}
	if c.pos != c.end {
		return Entry{}, false, c.wrap(fmt.Errorf("%w: %d bytes are left behind the last entry", ErrFormat, c.end-c.pos))
	}
	return Entry{}, false, nil
}

func (c *cursor) entry() (e Entry, err error) {
	b, err := c.ReadByte()
	if err != nil {
		return e, err
	}
	e.Kind = Kind(b)
	if err := c.readName(); err != nil {
		return e, err
	}
	switch {
	case e.Kind == Dir:
		distance, err := c.unsigned()
		if err != nil {
			return e, err
		}
		if len(c.pages.name) == 0 {
			return e, nil
		}
		if distance == 0 || distance > uint64(c.start)-uint64(len(magic)) {
			return e, fmt.Errorf("%w: %.80q lies %d bytes before its parent", ErrFormat, c.pages.name, distance)
		}
		e.block, e.limit = c.start-int64(distance), c.start
		return e, nil
	case e.Kind == File:
		if e.Size, err = c.unsigned(); err != nil {
			return e, err
		}
		e.Mtime, err = c.signed()
		return e, err
	case e.Kind.plain():
		return e, nil
	}
	return e, fmt.Errorf("%w: %.80q is of an %s", ErrFormat, c.pages.name, e.Kind)
}

func (c *cursor) readName() error {
	n, err := c.unsigned()
	if err != nil {
		return err
	}
	if n > maxName {
		return fmt.Errorf("%w: a name of %d bytes", ErrFormat, n)
	}
	c.pages.name = c.pages.name[:0]
	for left := int(n); left > 0; {
		if err := c.load(); err != nil {
			return err
		}
		b := c.near[c.pos-c.base:]
		b = b[:min(int64(len(b)), int64(left), c.end-c.pos)]
		c.pages.name = append(c.pages.name, b...)
		c.pos += int64(len(b))
		left -= len(b)
	}
	if len(c.pages.name) == 0 {
		return nil
	}
	if err := checkName(c.pages.name); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}

// load makes near hold the byte at pos.
func (c *cursor) load() (err error) {
	if c.pos >= c.end {
		return fmt.Errorf("%w: it ends within an entry", ErrFormat)
	}
	if off := c.pos - c.base; off < 0 || off >= int64(len(c.near)) {
		c.near, c.base, err = c.pages.at(c.pos)
	}
	return err
}

func (c *cursor) ReadByte() (byte, error) {
	if err := c.load(); err != nil {
		return 0, err
	}
	c.pos++
	return c.near[c.pos-1-c.base], nil
}

func (c *cursor) unsigned() (uint64, error) { return ReadUnsigned(c) }
func (c *cursor) signed() (int64, error)    { return ReadSigned(c) }

func (c *cursor) wrap(err error) error {
	return fmt.Errorf("catalog: directory at offset %d: %w", c.start, err)
}
