package cartridge

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// What waits at most until it is flushed without being asked for.
const (
	maxPending      = 16 << 10  // entries
	maxPendingBytes = 256 << 20 // of data
)

// Cartridge is an open cartridge.
type Cartridge struct {
	Memory Memory // what its chip holds; SaveMemory makes changes durable

	disk  Disk
	dir   string
	index vfs.File
	data  vfs.File
	tail  vfs.File

	flushed uint64   // objects with an entry on the disk
	pending []Object // those after them
	waiting int64    // stored bytes of pending
	end     int64    // of the stored bytes
	size    int64    // of the file data, which may lack a hole at its end
	marks   uint64
	broken  error // of the flush that failed
	noTail  bool  // the file tail is surely empty

	page  []byte // entries from number first on, all flushed
	first uint64
	buf   []byte // stored bytes of one block
}

// Objects is the number of objects, those that wait included.
func (c *Cartridge) Objects() uint64 { return c.flushed + uint64(len(c.pending)) }

// Pending is the number of objects that a power cut may lose.
func (c *Cartridge) Pending() int { return len(c.pending) }

// PendingBytes is how much that is.
func (c *Cartridge) PendingBytes() int64 { return c.waiting }

// Marks is the number of filemarks.
func (c *Cartridge) Marks() uint64 { return c.marks }

// Used is what the objects take of the capacity, in bytes.
func (c *Cartridge) Used() int64 { return c.end + int64(c.Objects())*entrySize }

// UsedTo is what the objects before a position take.
func (c *Cartridge) UsedTo(number uint64) int64 {
	o, err := c.At(number)
	if err != nil {
		return c.Used()
	}
	return o.off + int64(number)*entrySize
}

// At describes the object with a number, from 0.
func (c *Cartridge) At(number uint64) (Object, error) {
	switch {
	case number >= c.Objects():
		return Object{}, ErrEndOfData
	case number >= c.flushed:
		return c.pending[number-c.flushed], nil
	}
	if c.page == nil || number < c.first || number >= c.first+uint64(len(c.page)/entrySize) {
		if err := c.readPage(number); err != nil {
			return Object{}, err
		}
	}
	at := (number - c.first) * entrySize
	return parseEntry(number, c.page[at:at+entrySize])
}

func (c *Cartridge) readPage(number uint64) error {
	first := number - number%pageEntries
	c.page = nil
	page := make([]byte, min(pageEntries, c.flushed-first)*entrySize)
	if n, err := c.index.ReadAt(page, int64(first)*entrySize); n < len(page) {
		if err == nil || errors.Is(err, io.EOF) {
			return &CorruptError{number, "the index is too short"}
		}
		return err
	}
	c.page, c.first = page, first
	return nil
}

// FilesAt is the number of filemarks before a position, which is the number
// of an object or of the next one.
func (c *Cartridge) FilesAt(number uint64) (uint64, error) {
	if number >= c.Objects() {
		return c.marks, nil
	}
	o, err := c.At(number)
	return o.Files, err
}

// FindMark returns the object number of the n-th filemark, from 0;
// ErrEndOfData if there are fewer.
func (c *Cartridge) FindMark(n uint64) (uint64, error) {
	if n >= c.marks {
		return 0, ErrEndOfData
	}
	// The first position with more than n filemarks before it, in (low, high].
	low, high := n, c.Objects()
	for high-low > 1 {
		mid := low + (high-low)/2
		files, err := c.FilesAt(mid)
		if err != nil {
			return 0, err
		}
		if files > n {
			high = mid
		} else {
			low = mid
		}
	}
	return low, nil
}

// ReadBlock reads the block with a number into p, as much as fits, and returns
// its object, whose Length says how long it is. An encrypted block needs the
// key; a plain one ignores it. A filemark reads as nothing.
func (c *Cartridge) ReadBlock(number uint64, p []byte, k *Key) (Object, error) {
	o, err := c.At(number)
	if err != nil || o.Mark {
		return o, err
	}
	switch {
	case o.Encrypted && k == nil:
		return o, fmt.Errorf("object %d: %w", number, ErrNoKey)
	case o.Encrypted && !k.Fits(o):
		return o, fmt.Errorf("object %d: %w", number, ErrKey)
	}
	into, direct := p, !o.Encrypted && len(p) >= o.Length
	if !direct {
		c.buf = slices.Grow(c.buf[:0], o.stored())
		into = c.buf
	}
	into = into[:o.stored()]
	if err := c.readStored(o, into); err != nil {
		return o, err
	}
	if castagnoli(into) != o.sum {
		return o, &CorruptError{number, "its bytes are not those that were written"}
	}
	if o.Encrypted {
		if into, err = k.open(number, into); err != nil {
			return o, fmt.Errorf("object %d: %w", number, err)
		}
	}
	if !direct {
		copy(p, into)
	}
	return o, nil
}

// readStored reads bytes of data; what lies behind its end is a hole that a
// flush will make.
func (c *Cartridge) readStored(o Object, into []byte) error {
	n := int(min(max(c.size-o.off, 0), int64(len(into))))
	clear(into[n:])
	if got, err := c.data.ReadAt(into[:n], o.off); got < n {
		if err == nil || errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}
