package cartridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

const (
	memoryFile = "cartridge.json"
	maxMemory  = 1 << 20 // bytes of cartridge.json
)

// Memory is what a cartridge knows of itself.
type Memory struct {
	Barcode  string  `json:"barcode"`
	Serial   string  `json:"serial"`
	Density  Density `json:"density"`
	Capacity int64   `json:"capacity"` // bytes
	// EarlyWarning is the length of the zone before the end, in bytes.
	EarlyWarning int64  `json:"early-warning"`
	Manufactured string `json:"manufactured"` // YYYYMMDD

	WORM         bool `json:"worm,omitempty"`
	WriteProtect bool `json:"write-protect,omitempty"`
	Cleaning     bool `json:"cleaning,omitempty"`
	Uses         int  `json:"uses,omitempty"` // how often a cleaning cartridge still cleans

	Loads     uint64         `json:"loads,omitempty"`
	Written   int64          `json:"written,omitempty"` // bytes in its life
	Read      int64          `json:"read,omitempty"`
	Changes   uint64         `json:"changes,omitempty"`   // loads in which something was written
	Formatted uint64         `json:"formatted,omitempty"` // how often
	Drives    []string       `json:"drives,omitempty"`    // vendor and serial of the last drives, the latest first
	Host      map[int][]byte `json:"host,omitempty"`      // attributes that hosts wrote
}

func (m *Memory) check() error {
	switch _, known := m.Density.Format(); {
	case m.Capacity <= 0:
		return fmt.Errorf("cartridge %s: a capacity of %d bytes", m.Barcode, m.Capacity)
	case m.EarlyWarning < 0 || m.EarlyWarning > m.Capacity:
		return fmt.Errorf("cartridge %s: an early warning zone of %d bytes", m.Barcode, m.EarlyWarning)
	case !known:
		return fmt.Errorf("cartridge %s: density %v is not known", m.Barcode, m.Density)
	}
	return nil
}

// Look reads the memory of a cartridge that may be open, as it was last saved.
func Look(d Disk, dir string) (m Memory, err error) {
	f, err := d.Open(dir + "/" + memoryFile)
	if err != nil {
		return m, err
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxMemory))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w", memoryFile, err)
	}
	return m, m.check()
}

// SaveMemory makes the memory durable.
func (c *Cartridge) SaveMemory() error {
	b, err := json.MarshalIndent(&c.Memory, "", "  ")
	if err != nil {
		return err
	}
	name := c.dir + "/" + memoryFile
	if err := Replace(c.disk, name, append(b, '\n')); err != nil {
		return fmt.Errorf("cartridge %s: %w", c.dir, err)
	}
	return nil
}

// Replace gives a file another content, in one step that is durable.
func Replace(d Disk, name string, content []byte) error {
	tmp := name + ".tmp"
	if err := d.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.Create(tmp, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(content, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.Rename(tmp, name); err != nil {
		return err
	}
	dir, _ := vfs.Split(name)
	return d.SyncDir(dir)
}
