package cartridge

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/zero"
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

// Create makes a cartridge in a new directory.
func Create(d Disk, dir string, m Memory) (err error) {
	if err := m.check(); err != nil {
		return err
	}
	if err := d.Mkdir(dir, 0o750); err != nil {
		return err
	}
	for _, name := range []string{"index", "data", "tail"} {
		f, err := d.Create(dir+"/"+name, 0o640)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	c := &Cartridge{Memory: m, disk: d, dir: dir}
	if err := c.SaveMemory(); err != nil {
		return err
	}
	parent, _ := vfs.Split(dir)
	return d.SyncDir(parent)
}

// Open opens a cartridge, which must not be open elsewhere.
func Open(d Disk, dir string) (_ *Cartridge, err error) {
	c := &Cartridge{disk: d, dir: dir}
	defer func() {
		if err != nil {
			c.closeFiles()
			err = fmt.Errorf("cartridge %s: %w", dir, err)
		}
	}()
	if c.Memory, err = Look(d, dir); err != nil {
		return nil, err
	}
	if c.index, err = d.OpenWrite(dir + "/index"); err != nil {
		return nil, err
	}
	if c.data, err = d.OpenWrite(dir + "/data"); err != nil {
		return nil, err
	}
	if c.tail, err = d.OpenWrite(dir + "/tail"); err != nil {
		return nil, err
	}
	return c, c.recover()
}

// cutData makes sure that holes behind the end read as zeros.
func (c *Cartridge) cutData(end int64) (err error) {
	if c.size, err = c.data.Size(); err != nil {
		return err
	}
	if c.size > end {
		c.size = end
		return c.data.Truncate(end)
	}
	return nil
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

// WriteBlock writes a block at a position, which cuts away what is there and
// behind. With a key it is encrypted.
func (c *Cartridge) WriteBlock(number uint64, b []byte, k *Key) error {
	if len(b) == 0 || len(b) > MaxBlock {
		return fmt.Errorf("a block of %d bytes", len(b))
	}
	if err := c.Truncate(number); err != nil {
		return err
	}
	o := Object{Length: len(b), Files: c.marks, off: c.end}
	if k != nil {
		c.buf = k.seal(slices.Grow(c.buf[:0], len(b)+sealOverhead), number, b)
		b = c.buf
		o.Encrypted, o.check = true, k.check
	}
	o.sum = castagnoli(b)
	if !zero.Is(b) {
		if _, err := c.data.WriteAt(b, c.end); err != nil {
			return err
		}
		c.size = c.end + int64(len(b))
	}
	return c.add(o)
}

// WriteMark writes a filemark at a position, which cuts away what is there
// and behind.
func (c *Cartridge) WriteMark(number uint64) error {
	if err := c.Truncate(number); err != nil {
		return err
	}
	return c.add(Object{Mark: true, Files: c.marks, off: c.end})
}

func (c *Cartridge) add(o Object) error {
	c.pending = append(c.pending, o)
	c.waiting += int64(o.stored())
	c.end, c.marks = o.end(), o.filesAfter()
	if len(c.pending) >= maxPending || c.waiting >= maxPendingBytes {
		return c.Flush()
	}
	return nil
}

// Truncate removes the object with a number and all behind it.
func (c *Cartridge) Truncate(number uint64) error {
	switch {
	case c.broken != nil:
		return c.broken
	case number > c.Objects():
		return ErrEndOfData
	case number == c.Objects():
		return nil
	}
	o, err := c.At(number)
	if err != nil {
		return err
	}
	if number < c.flushed {
		c.flushed, c.pending = number, nil
		o.off = aligned(o.off)
		if err := errors.Join(c.saveTail(), c.cutIndex(number)); err != nil {
			c.broken = err
			return err
		}
	}
	c.pending = c.pending[:number-c.flushed]
	c.waiting = 0
	for _, p := range c.pending {
		c.waiting += int64(p.stored())
	}
	c.end, c.marks = o.off, o.Files
	if err := c.cutData(c.end); err != nil {
		c.broken = err
		return err
	}
	return nil
}

// Flush returns when all that was written is on the disk.
func (c *Cartridge) Flush() error {
	if c.broken != nil || len(c.pending) == 0 {
		return c.broken
	}
	if err := c.flush(); err != nil {
		c.broken = fmt.Errorf("what the disk holds is not known: %w", err)
		return c.broken
	}
	return nil
}

func (c *Cartridge) flush() error {
	if c.size < c.end {
		if err := c.data.Truncate(c.end); err != nil {
			return err
		}
		c.size = c.end
	}
	if c.waiting > 0 {
		if err := c.data.Sync(); err != nil {
			return err
		}
	}
	entries := make([]byte, 0, len(c.pending)*entrySize)
	for i, o := range c.pending {
		entries = o.append(entries, c.flushed+uint64(i))
	}
	if err := c.saveTail(); err != nil {
		return err
	}
	if _, err := c.index.WriteAt(entries, int64(c.flushed)*entrySize); err != nil {
		return err
	}
	if err := c.index.Sync(); err != nil {
		return err
	}
	c.flushed += uint64(len(c.pending))
	c.pending, c.waiting, c.page = c.pending[:0], 0, nil
	c.end = aligned(c.end)
	return nil
}

// Lose plays a power cut of the drive: of what waits only the first keep
// objects reach the medium.
func (c *Cartridge) Lose(keep int) error {
	if keep < len(c.pending) {
		if err := c.Truncate(c.flushed + uint64(max(keep, 0))); err != nil {
			return err
		}
	}
	return c.Flush()
}

// Close flushes and closes.
func (c *Cartridge) Close() error {
	err := c.Flush()
	return errors.Join(err, c.closeFiles())
}

func (c *Cartridge) closeFiles() (err error) {
	for _, f := range []vfs.File{c.index, c.data, c.tail} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
