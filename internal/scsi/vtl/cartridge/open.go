package cartridge

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

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
