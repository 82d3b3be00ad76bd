package pxar

import (
	"errors"
	"io"
	"iter"
)

// Item is an item of an archive, without its content.
type Item struct {
	Type   Type
	Offset int64 // of its header
	Size   int64 // with its header, bytes
	Link   int64 // of a HARDLINK: Offset of the entry that it stands for
}

// Items yields all items of the archive, the metadata stream of version 2, in
// the order in which they stand; it stops at the first error. Of contents only
// what lies near headers is read, and nothing but headers is looked at: it costs
// a fraction of a walk.
func (a *Archive) Items() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		in := fileInput(a.r, 0, a.size, maxAhead)
		name := int64(0) // position of the last FILENAME
		for {
			it, err := in.item()
			if errors.Is(err, io.EOF) {
				return
			}
			var x Item
			if err == nil {
				x, err = in.pass(it, name)
			}
			if it.typ == TypeFilename {
				name = it.pos
			}
			if !yield(x, err) || err != nil {
				return
			}
		}
	}
}

// pass consumes an item that belongs to the FILENAME at name.
func (in *input) pass(it item, name int64) (Item, error) {
	x := Item{Type: it.typ, Offset: it.pos, Size: HeaderSize + it.size}
	if typeNames[it.typ] == "" {
		return x, it.bad("where an item is expected")
	}
	if it.typ == TypeHardlink {
		if it.size < minHardlink || it.size > 8+MaxName+1 {
			return x, it.bad("has %d bytes of content", it.size)
		}
		b, err := in.peek(HeaderSize + 8)
		if err != nil {
			return x, in.within(err)
		}
		back := le.Uint64(b[HeaderSize:])
		if back == 0 || back > uint64(name) {
			return x, it.bad("at offset %d leads back %d bytes", name, back)
		}
		x.Link = name - int64(back)
	}
	return x, in.skip(x.Size)
}
