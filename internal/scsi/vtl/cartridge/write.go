package cartridge

import (
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/zero"
)

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
