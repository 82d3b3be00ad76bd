package browse

import (
	"iter"

	"github.com/holdfast-backup/holdfast/internal/format/catalog"
	"github.com/holdfast-backup/holdfast/internal/format/pxar"
)

// inCatalog reads a catalog.
type inCatalog struct{ *catalog.Reader }

// kinds are those of a catalog.
var kinds = [...]struct {
	in catalog.Kind
	is pxar.Kind
}{
	{catalog.Dir, pxar.Directory},
	{catalog.File, pxar.File},
	{catalog.Symlink, pxar.Symlink},
	{catalog.Hardlink, pxar.Hardlink},
	{catalog.BlockDevice, pxar.BlockDevice},
	{catalog.CharDevice, pxar.CharDevice},
	{catalog.Fifo, pxar.FIFO},
	{catalog.Socket, pxar.Socket},
}

// Letter is the letter that stands for a kind in catalogs.
func Letter(k pxar.Kind) byte {
	for _, known := range kinds {
		if known.is == k {
			return byte(known.in)
		}
	}
	return '?'
}

func ofCatalog(c catalog.Entry) Entry {
	e := Entry{Name: c.Name, Size: c.Size, node: c}
	for _, known := range kinds {
		if known.in == c.Kind {
			e.Kind = known.is
		}
	}
	if c.Kind == catalog.File {
		e.Mtime.Sec = c.Mtime
	}
	return e
}

func (c inCatalog) list(dir *Entry) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for e, err := range c.Reader.List(dir.node) {
			if !yield(ofCatalog(e), err) {
				return
			}
		}
	}
}

func (c inCatalog) child(dir *Entry, name string) (Entry, error) {
	e, err := c.Reader.Lookup(dir.node, name)
	return ofCatalog(e), err
}

func (c inCatalog) walk(dir *Entry, base []byte, f Func) error {
	path := base
	return c.Reader.Walk(dir.node, func(below []byte, e catalog.Entry) error {
		path = append(path[:len(base)], below...)
		entry := ofCatalog(e)
		return f(path, &entry)
	})
}

func (c inCatalog) target(e *Entry) (Entry, error) { return *e, nil }
