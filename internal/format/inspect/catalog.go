package inspect

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/catalog"
)

var catalogMagic = []byte{0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5}

// catalogEnd is the length of what stands behind the blocks.
const catalogEnd = 8

// catalog explains a catalog block by block, as they lie in the file.
func (d *dump) catalog(head []byte) error {
	d.field(head, 0, 8, "magic", "", "")
	if d.size < int64(len(catalogMagic))+catalogEnd {
		d.put(Field{Offset: d.size, Name: "end of file", Problem: "too short for a catalog"})
		return nil
	}
	tail, err := d.read(d.size-catalogEnd, catalogEnd)
	if err != nil {
		return err
	}
	root := binary.LittleEndian.Uint64(tail)
	b := blocks{d: d, start: int64(len(catalogMagic)), end: d.size - catalogEnd, root: root}
	b.in = bufio.NewReaderSize(io.NewSectionReader(d.r, b.start, b.end-b.start), 64<<10)
	b.at = b.start
	if err := b.all(); err != nil {
		return fmt.Errorf("read the blocks: %w", err)
	}
	problem := ""
	if b.last != root || b.blocks == 0 {
		problem = "no block that is the last one starts there"
	}
	d.put(Field{
		Offset: d.size - catalogEnd, Length: catalogEnd, Raw: tail, Name: "root",
		Value: fmt.Sprintf("the block at %#x", root), Problem: problem,
	})
	return nil
}

// blocks reads the blocks in the order of their offsets.
type blocks struct {
	d          *dump
	in         *bufio.Reader
	raw        []byte // of the field that is read, at most maxRaw bytes
	at         int64
	start, end int64 // of the current block; of all
	stop       int64 // of the current block
	root       uint64
	last       uint64 // start of the last block
	blocks     int
}

func (b *blocks) ReadByte() (byte, error) {
	if b.at >= b.stop {
		return 0, io.ErrUnexpectedEOF
	}
	c, err := b.in.ReadByte()
	if err != nil {
		return 0, err
	}
	b.at++
	if len(b.raw) < maxRaw {
		b.raw = append(b.raw, c)
	}
	return c, nil
}

func (b *blocks) all() error {
	hidden, from := 0, int64(0)
	for b.at < b.end && b.d.err == nil {
		show := b.d.o.Entries < 0 || b.blocks < b.most() || uint64(b.at) == b.root
		if !show && hidden == 0 {
			from = b.at
		}
		if show && hidden > 0 {
			b.d.put(Field{Offset: from, Name: fmt.Sprintf("... %d directories not shown", hidden)})
			hidden = 0
		}
		if !show {
			hidden++
		}
		ok, err := b.block(show)
		if err != nil || !ok {
			return err
		}
	}
	if hidden > 0 {
		b.d.put(Field{Offset: from, Name: fmt.Sprintf("... %d directories not shown", hidden)})
	}
	return nil
}

func (b *blocks) most() int {
	if b.d.o.Entries == 0 {
		return 8
	}
	return b.d.o.Entries
}

// block explains one; false when nothing is to be found behind it.
func (b *blocks) block(show bool) (bool, error) {
	b.start, b.stop, b.raw = b.at, b.end, nil
	b.last = uint64(b.start)
	b.blocks++
	length, err := catalog.ReadUnsigned(b)
	if err == nil && (length == 0 || length > uint64(b.end-b.at)) {
		return b.bad("block", fmt.Sprintf("a table of %d bytes, up to %d are possible", length, b.end-b.at))
	}
	count := uint64(0)
	if err == nil {
		b.stop = b.at + int64(length)
		count, err = catalog.ReadUnsigned(b)
	}
	if err != nil {
		return b.failed("block", err)
	}
	if show {
		b.field("block", fmt.Sprintf("%d entries in %d bytes", count, length), b.start, "")
	}
	for i := uint64(0); i < count; i++ {
		shown := show && (b.d.o.Entries < 0 || i < uint64(b.most()) || i == count-1)
		if show && !shown && i == uint64(b.most()) {
			b.d.put(Field{Offset: b.at, Name: fmt.Sprintf("... %d entries not shown", count-i-1)})
		}
		if ok, err := b.entry(shown); err != nil || !ok || b.d.err != nil {
			return ok, err
		}
	}
	if b.at != b.stop {
		b.raw = nil
		n := b.stop - b.at
		b.d.put(Field{Offset: b.at, Name: "rest", Problem: fmt.Sprintf("%d bytes behind the last entry", n)})
		k, err := io.CopyN(io.Discard, b.in, n)
		b.at += k
		return err == nil, err
	}
	return true, nil
}

func (b *blocks) entry(show bool) (bool, error) {
	from := b.at
	b.raw = nil
	kind, err := b.ReadByte()
	if err != nil {
		return b.failed("entry", err)
	}
	size, err := catalog.ReadUnsigned(b)
	if err != nil {
		return b.failed("entry", err)
	}
	if size > 4095 {
		return b.bad("entry", fmt.Sprintf("a name of %d bytes, up to 4095 are possible", size))
	}
	name := make([]byte, size)
	for i := range name {
		if name[i], err = b.ReadByte(); err != nil {
			return b.failed("entry", err)
		}
	}
	value := fmt.Sprintf("%q", name)
	problem := ""
	if size == 0 || bytes.ContainsAny(name, "/\x00") || string(name) == "." || string(name) == ".." {
		problem = "not a name"
	}
	switch k := catalog.Kind(kind); {
	case k == catalog.Dir:
		var distance uint64
		if distance, err = catalog.ReadUnsigned(b); err != nil {
			break
		}
		value += fmt.Sprintf(", %d bytes before", distance)
		if distance == 0 || distance > uint64(b.start)-uint64(len(catalogMagic)) {
			problem = "no block can be there"
		} else {
			value += fmt.Sprintf(": the block at %#x", b.start-int64(distance))
		}
	case k == catalog.File:
		var length uint64
		var mtime int64
		if length, err = catalog.ReadUnsigned(b); err == nil {
			mtime, err = catalog.ReadSigned(b)
		}
		value += fmt.Sprintf(", %s, mtime %s", byteCount(length), unixTime(uint64(mtime)))
	case k == catalog.Symlink, k == catalog.Hardlink, k == catalog.BlockDevice, k == catalog.CharDevice, k == catalog.Fifo, k == catalog.Socket:
	default:
		return b.bad("entry", fmt.Sprintf("%q is of an %s", name, k))
	}
	if err != nil {
		return b.failed("entry", err)
	}
	if show || problem != "" {
		b.field(catalog.Kind(kind).String(), value, from, problem)
	}
	return true, nil
}

func (b *blocks) field(name, value string, from int64, problem string) {
	b.d.put(Field{Offset: from, Length: b.at - from, Raw: bytes.Clone(b.raw), Name: name, Value: value, Problem: problem})
	b.raw = nil
}

// bad says that nothing behind this can be told apart.
func (b *blocks) bad(name, problem string) (bool, error) {
	b.d.put(Field{Offset: b.at, Name: name, Problem: problem})
	return false, nil
}

// failed tells damage from errors of the reader.
func (b *blocks) failed(name string, err error) (bool, error) {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && b.at >= b.stop:
		return b.bad(name, fmt.Sprintf("it goes on behind the end of its directory, %#x", b.stop))
	case errors.Is(err, catalog.ErrFormat):
		return b.bad(name, err.Error())
	}
	return false, err
}
