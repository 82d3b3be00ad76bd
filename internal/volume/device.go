package volume

import (
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/volumeheader"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// device is what a volume lies on, for whoever may change it.
type device interface {
	image.Image
	io.WriterAt
	Zero(off, n int64) error
	// Sync makes durable what was written before.
	Sync() error
}

// readSector reads the sector of the header; of a shorter device what there is.
func readSector(r io.ReaderAt) ([]byte, error) {
	b := make([]byte, volumeheader.Size)
	n, err := r.ReadAt(b, 0)
	if n < len(b) && err != io.EOF {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	return b[:n], nil
}

// writeHeader changes the sector that was there and makes it durable.
func writeHeader(d device, sector []byte, h volumeheader.Header) error {
	if h.Record != nil {
		if err := h.Record.Validate(); err != nil {
			return fmt.Errorf("header: %w", err)
		}
	}
	h.Put(sector)
	if _, err := d.WriteAt(sector, 0); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write the header: %w", err)
	}
	return nil
}

// payload is the part of a device that holds the image, as what a restore writes to.
type payload struct {
	*image.Section
	d     device
	start int64
}

var (
	_ image.Target   = (*payload)(nil)
	_ image.Extenter = (*payload)(nil)
	_ image.Shifted  = (*payload)(nil)
)

func newPayload(d device, start, size int64) (*payload, error) {
	s, err := image.NewSection(d, start, size)
	if err != nil {
		return nil, err
	}
	return &payload{s, d, start}, nil
}

// WriteAt writes within the image.
func (p *payload) WriteAt(b []byte, off int64) (int, error) {
	if err := p.within(off, int64(len(b))); err != nil {
		return 0, err
	}
	return p.d.WriteAt(b, p.start+off)
}

// Zero makes [off, off+n) read as zeros.
func (p *payload) Zero(off, n int64) error {
	if err := p.within(off, n); err != nil {
		return err
	}
	return p.d.Zero(p.start+off, n)
}

func (p *payload) within(off, n int64) error {
	if off < 0 || n < 0 || off > p.Size()-n {
		return fmt.Errorf("write of %d bytes at offset %d exceeds the image's %d bytes", n, off, p.Size())
	}
	return nil
}

// Shift says where the pages of the device begin, as its cache has them.
func (p *payload) Shift() int64 {
	const page = 4096
	return (page - p.start%page) % page
}

// Fresh is false: what was there stays.
func (p *payload) Fresh() bool { return false }

// Finish makes the payload durable, before the header says that it is complete.
func (p *payload) Finish() error { return p.d.Sync() }

// Close does nothing: the device is the caller's.
func (p *payload) Close() error { return nil }
