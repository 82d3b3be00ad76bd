package pxar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
)

// Cursor goes through the entries of a directory in the order of the archive,
// each only once read. It belongs to one goroutine.
type Cursor struct {
	d     *Dir
	in    *input
	next  int64 // position of the next entry
	count int64
	err   error
}

// Cursor returns one that begins behind the entry with this EndPos, or with the
// first entry if pos is 0.
func (d *Dir) Cursor(pos int64) (*Cursor, error) {
	if pos == 0 {
		pos = d.e.Body
	}
	if pos < d.e.Body || pos > d.table {
		return nil, fmt.Errorf("offset %d is outside of %s: %w", pos, &d.e, fs.ErrInvalid)
	}
	in := fileInput(d.a.r, pos, d.table, listAhead)
	return &Cursor{d: d, in: in, next: pos}, nil
}

// Next returns the next entry, behind the last one io.EOF. An error is returned
// again by all further calls.
func (c *Cursor) Next() (*Entry, error) {
	if c.err != nil {
		return nil, c.err
	}
	e, err := c.entry()
	if err != nil {
		c.err = err
		return nil, err
	}
	return e, nil
}

func (c *Cursor) entry() (*Entry, error) {
	d := c.d
	if err := c.in.skip(c.next - c.in.pos); err != nil {
		return nil, err
	}
	if c.next >= d.table {
		// More than there are is what some programs write for files that vanished.
		if c.count > d.n {
			return nil, fmt.Errorf("%w: offset %d: goodbye table of %d entries, %s has %d", ErrFormat, d.table, d.n, &d.e, c.count)
		}
		return nil, io.EOF
	}
	e, err := d.child(c.in)
	if err != nil {
		return nil, err
	}
	c.next = e.EndPos
	c.count++
	return e, nil
}

// child reads the entry at in. Where a directory ends is in the table.
func (d *Dir) child(in *input) (*Entry, error) {
	e, err := d.a.entryAt(in)
	if err != nil || e.Kind != Directory {
		return e, err
	}
	back := uint64(d.table - e.Offset)
	err = d.search(NameHash(e.Name), func(l line) (bool, error) {
		if l.back != back {
			return false, nil
		}
		return true, d.setEnd(e, l.size)
	})
	if err == nil && e.EndPos == 0 {
		err = fmt.Errorf("%w: offset %d: goodbye table without %s", ErrFormat, d.table, e)
	}
	return e, err
}

// Entries yields the entries in the order of the archive, each only once read;
// it stops at the first error.
func (d *Dir) Entries() iter.Seq2[*Entry, error] { return d.EntriesFrom(d.e.Body) }

// EntriesFrom goes on behind the entry with this EndPos.
func (d *Dir) EntriesFrom(pos int64) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		c, err := d.Cursor(pos)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			e, err := c.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}
