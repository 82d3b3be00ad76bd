package lto

import (
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Mode pages.
const (
	pageCompression = 0x0f
	pageDevice      = 0x10
	pageMedium      = 0x1d
)

// Options are what a drive can be told.
type Options struct {
	BlockLength uint32 `json:"blocksize"` // 0: as long as each command says
	Compression bool   `json:"compression"`
	BufferMode  uint8  `json:"buffer-mode"` // 1: a write ends when its data is in the buffer
}

// usual is what tapes are written with. Chunks are compressed already; drives
// see that, and labels and indexes still shrink.
func usual() Options { return Options{Compression: true, BufferMode: 1} }

// mode is what MODE SENSE says of the drive, and of the medium.
type mode struct {
	Options
	density      Density
	writeProtect bool
	raw          *scsi.Mode
	hasPage      bool // raw.Page is the one of compression
}

// Lengths in a block descriptor, of 8 bytes.
const descriptor = 8

// readMode asks for the options.
func (d *Drive) readMode() (mode, error) {
	var raw *scsi.Mode
	err := d.asking(func() (err error) {
		raw, err = scsi.ReadMode(d.t, scsi.ModePage{Page: pageCompression})
		return err
	})
	m := mode{raw: raw, hasPage: true}
	if refused(err) { // no such page: the device configuration says it too
		m.hasPage = false
		err = d.asking(func() (err error) {
			m.raw, err = scsi.ReadMode(d.t, scsi.ModePage{Page: pageDevice})
			return err
		})
	}
	if err != nil {
		return mode{}, err
	}
	b, p := m.raw.Blocks, m.raw.Page
	if len(b) < descriptor {
		return mode{}, errors.New("the drive does not tell its block length")
	}
	m.BlockLength = uint32(b[5])<<16 | uint32(b[6])<<8 | uint32(b[7])
	m.density = Density(b[0])
	m.BufferMode = m.raw.Specific >> 4 & 7
	m.writeProtect = m.raw.Specific&0x80 != 0
	switch {
	case m.hasPage && len(p) > 2:
		m.Compression = p[2]&0x80 != 0
	case !m.hasPage && len(p) > 14:
		m.Compression = p[14] != 0
	}
	return m, nil
}

// asking repeats a question after unit attentions, as ask does.
func (d *Drive) asking(f func() error) (err error) {
	for range attentions {
		err = f()
		s, ok := scsi.AsSense(err)
		if !ok || s.Key != scsi.UnitAttention {
			break
		}
		if d.ready && !harmless(s) {
			d.lose(s)
		}
	}
	return explain(err)
}

// setOptions sets what the driver relies on, and makes sure of it.
func (d *Drive) setOptions() error {
	d.noProgrammableWarning()
	return d.SetOptions(usual())
}

// SetOptions changes what the drive does, in one MODE SELECT, and makes sure of
// it. A drive that does not compress is left at that.
func (d *Drive) SetOptions(o Options) error {
	m, err := d.readMode()
	if err != nil {
		return fmt.Errorf("ask the drive for its options: %w", err)
	}
	if m.Options == o {
		return nil
	}
	if err := d.writeMode(m, o); err != nil {
		return fmt.Errorf("set the options of the drive: %w", err)
	}
	m, err = d.readMode()
	if err != nil {
		return fmt.Errorf("ask the drive for its options: %w", err)
	}
	m.Compression = o.Compression
	if m.Options != o {
		return fmt.Errorf("the drive was told to use %+v and uses %+v", o, m.Options)
	}
	return nil
}

// writeMode sends options. Where the drive refuses the page, the header with the
// block length goes alone.
func (d *Drive) writeMode(m mode, o Options) error {
	raw := m.raw
	raw.Specific = raw.Specific&0x0f | o.BufferMode&7<<4
	b := raw.Blocks[:descriptor]
	b[1], b[2], b[3] = 0, 0, 0 // all blocks that follow
	b[5], b[6], b[7] = byte(o.BlockLength>>16), byte(o.BlockLength>>8), byte(o.BlockLength)
	raw.Blocks = b
	compression := func(on byte) byte {
		if o.Compression {
			return on
		}
		return 0
	}
	switch p := raw.Page; {
	case m.hasPage && len(p) > 2:
		p[2] = p[2]&0x7f | compression(0x80)
	case !m.hasPage && len(p) > 14:
		p[14] = compression(1)
	}
	err := d.asking(func() error { return scsi.WriteMode(d.t, raw) })
	if refused(err) {
		raw.Page = nil
		err = d.asking(func() error { return scsi.WriteMode(d.t, raw) })
	}
	return err
}

// noProgrammableWarning has the drive warn of the end of the medium where it
// does so by itself. Drives that know nothing of it need nothing.
func (d *Drive) noProgrammableWarning() {
	var m *scsi.Mode
	err := d.asking(func() (err error) {
		m, err = scsi.ReadMode(d.t, scsi.ModePage{Page: pageDevice, Subpage: 1})
		return err
	})
	if err != nil || len(m.Page) < 8 || m.Page[6] == 0 && m.Page[7] == 0 {
		return
	}
	m.Page[6], m.Page[7] = 0, 0
	_ = d.asking(func() error { return scsi.WriteMode(d.t, m) })
}

// WORM reports whether what is on the medium cannot be overwritten.
func (d *Drive) WORM() (bool, error) {
	var m *scsi.Mode
	err := d.asking(func() (err error) {
		m, err = scsi.ReadMode(d.t, scsi.ModePage{Page: pageMedium})
		return err
	})
	if refused(err) {
		return false, nil // a drive from before there were such media
	}
	if err != nil {
		return false, err
	}
	return len(m.Page) > 2 && m.Page[2]&1 != 0, nil
}
