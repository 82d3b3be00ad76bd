package tree

import (
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// base follows the walk through the archive of the backup before. Both are in
// the order of names, so that it goes forward only. An archive in another order
// is no error: what is not met is read anew.
type base struct {
	r   *pxar.Reader
	cur *pxar.Entry // not passed yet: an entry of the current directory, or its end
	err error       // why it is of no more use
}

// newBase goes to the first entry of the root.
func newBase(r *pxar.Reader) *base {
	b := &base{r: r}
	b.next() // the root
	b.next()
	return b
}

func (b *base) next() {
	if b.err != nil {
		return
	}
	if b.cur, b.err = b.r.Next(); b.err != nil {
		b.cur = nil
		if errors.Is(b.err, io.EOF) {
			b.err = nil
		}
	}
}

// skip passes the current entry, with all that is in it.
func (b *base) skip() {
	if b.cur.Kind == pxar.Directory {
		for depth := 1; depth > 0; {
			if b.next(); b.cur == nil {
				return
			}
			switch b.cur.Kind {
			case pxar.Directory:
				depth++
			case pxar.End:
				depth--
			}
		}
	}
	b.next()
}

// find returns the entry of this name in the current directory, nil if there is
// none. Names come in ascending order.
func (b *base) find(name string) *pxar.Entry {
	for b.cur != nil && b.cur.Kind != pxar.End && b.cur.Name < name {
		b.skip()
	}
	if b.cur == nil || b.cur.Kind == pxar.End || b.cur.Name != name {
		return nil
	}
	e := *b.cur
	return &e
}

// enter goes into the directory that find returned.
func (b *base) enter() { b.next() }

// leave goes behind the current directory.
func (b *base) leave() {
	for b.cur != nil && b.cur.Kind != pxar.End {
		b.skip()
	}
	if b.cur != nil {
		b.next()
	}
}
