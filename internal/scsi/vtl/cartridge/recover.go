package cartridge

import (
	"errors"
	"io"
)

// recover cuts away what a crash left of entries that were not flushed.
func (c *Cartridge) recover() error {
	size, err := c.index.Size()
	if err != nil {
		return err
	}
	all := uint64(size / entrySize)
	c.flushed = all
	if err := c.restoreTail(); err != nil {
		return err
	}
	sure := all - min(all, maxPending)
	var last Object
	if sure > 0 {
		if last, err = c.At(sure - 1); err != nil {
			return err
		}
	}
	good := sure
	for ; good < all; good++ {
		o, err := c.At(good)
		if torn(err) {
			break
		} else if err != nil {
			return err
		}
		if end := last.end(); o.off != end && o.off != aligned(end) || o.Files != last.filesAfter() {
			break
		}
		last = o
	}
	if int64(good)*entrySize != size {
		if err := c.cutIndex(good); err != nil {
			return err
		}
	}
	c.flushed, c.end, c.marks = good, aligned(last.end()), last.filesAfter()
	return c.cutData(c.end)
}

func torn(err error) bool {
	_, ok := errors.AsType[*CorruptError](err)
	return ok
}

// cutIndex removes the entries from one on, for sure.
func (c *Cartridge) cutIndex(n uint64) error {
	c.page = nil
	if err := c.index.Truncate(int64(n) * entrySize); err != nil {
		return err
	}
	return c.index.Sync()
}

// The file tail holds the number of its first entry and then entries.
const tailHeader = 8

// saveTail copies the flushed entries of the page that a flush is about to write.
func (c *Cartridge) saveTail() error {
	n := c.flushed % pageEntries
	if n == 0 && c.noTail {
		return nil
	}
	b := make([]byte, tailHeader, tailHeader+n*entrySize)
	if n > 0 {
		if err := c.readPage(c.flushed - 1); err != nil {
			return err
		}
		be.PutUint64(b, c.first)
		b = append(b, c.page...)
	}
	if err := c.tail.Truncate(int64(len(b))); err != nil {
		return err
	}
	if _, err := c.tail.WriteAt(b, 0); err != nil {
		return err
	}
	c.noTail = n == 0
	return c.tail.Sync()
}

// restoreTail puts entries of tail back that are torn in the index.
func (c *Cartridge) restoreTail() error {
	b := make([]byte, tailHeader+pageSize)
	n, err := c.tail.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n < tailHeader {
		return nil
	}
	first, b := be.Uint64(b), b[tailHeader:n]
	restored := false
	for i := uint64(0); len(b) >= entrySize; i++ {
		e := b[:entrySize]
		b = b[entrySize:]
		if first+i >= c.flushed { // it was cut away
			break
		}
		if _, err := parseEntry(first+i, e); err != nil {
			continue
		}
		switch _, err := c.At(first + i); {
		case err == nil:
			continue
		case !torn(err):
			return err
		}
		if _, err := c.index.WriteAt(e, int64(first+i)*entrySize); err != nil {
			return err
		}
		restored = true
	}
	if !restored {
		return nil
	}
	c.page = nil
	return c.index.Sync()
}
