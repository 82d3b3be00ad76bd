package guesttest

import (
	"bytes"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// Image is a disk of a point.
type Image struct {
	g     *Guest
	data  []byte
	zero  map[int64]bool
	dirty map[int64]bool // nil: not known

	read, consumed atomic.Int64
}

var (
	_ image.Extenter = (*Image)(nil)
	_ image.Consumer = (*Image)(nil)
)

// Size is that of the disk when the point was taken.
func (m *Image) Size() int64 { return int64(len(m.data)) }

// ReadAt reads what the disk held then; not after the point broke.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	m.g.mu.Lock()
	fault := m.g.fault
	m.g.mu.Unlock()
	if fault != nil {
		return 0, fault
	}
	n, err := bytes.NewReader(m.data).ReadAt(p, off)
	m.read.Add(int64(n))
	return n, err
}

// Read is how many bytes were read.
func (m *Image) Read() int64 { return m.read.Load() }

// Consumed counts.
func (m *Image) Consumed(_, n int64) { m.consumed.Add(n) }

// GivenUp is how many bytes were said to be stored.
func (m *Image) GivenUp() int64 { return m.consumed.Load() }

// ExtentAt is that of one block.
func (m *Image) ExtentAt(off int64) (image.Extent, error) {
	b := off / Block
	e := image.Extent{Offset: off, Length: min((b+1)*Block, m.Size()) - off}
	switch {
	case m.dirty != nil && !m.dirty[b]:
		e.Kind = image.Unchanged
	case m.zero[b]:
		e.Kind = image.Zero
	}
	return e, nil
}
