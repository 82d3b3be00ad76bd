package scsi

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Mode is one mode page with what comes before it, as MODE SENSE gives it.
//
//	header of MODE SENSE(10)            of MODE SENSE(6)
//	0  2  length of what follows        0  1  length of what follows
//	2  1  medium type                   1  1  medium type
//	3  1  device specific               2  1  device specific
//	6  2  length of the descriptors     3  1  length of the descriptors
//
// then block descriptors of 8 bytes and the page.
type Mode struct {
	Short      bool   // it came by the 6-byte command, so it goes back by it
	MediumType uint8  // what the drive makes of the medium
	Specific   uint8  // of tapes: bit 7 write protected, 6 to 4 buffered mode, 3 to 0 speed
	Blocks     []byte // the block descriptors
	Page       []byte // the page with its own header; nil if there is none
}

// ModePage names a mode page.
type ModePage struct {
	Page, Subpage uint8
	NoBlocks      bool // without block descriptors
}

// ReadMode reads the current values of a mode page (MODE SENSE), by the 6-byte
// command where the 10-byte one is not known.
func ReadMode(t Transport, p ModePage) (*Mode, error) {
	var dbd byte
	if p.NoBlocks {
		dbd = 0x08
	}
	long := make([]byte, 4096)
	n, err := t.Do(Command{
		CDB: []byte{byte(ModeSense10), dbd, p.Page & 0x3f, p.Subpage, 0, 0, 0, byte(len(long) >> 8), byte(len(long)), 0},
		Dir: In, Data: long, Timeout: modeTimeout,
	})
	if err == nil {
		return ParseMode(long[:n], false, p)
	}
	if s, ok := AsSense(err); !ok || !s.Says(IllegalRequest, 0x2000) {
		return nil, err
	}
	short := make([]byte, 0xff)
	n, err = t.Do(Command{
		CDB: []byte{byte(ModeSense6), dbd, p.Page & 0x3f, p.Subpage, byte(len(short)), 0},
		Dir: In, Data: short, Timeout: modeTimeout,
	})
	if err != nil {
		return nil, err
	}
	return ParseMode(short[:n], true, p)
}

// ParseMode decodes an answer to MODE SENSE(10), or (6) if short. The length
// in the header counts: some drives send as much as there was room for.
func ParseMode(b []byte, short bool, p ModePage) (*Mode, error) {
	m := &Mode{Short: short}
	var total, blocks int
	switch {
	case short && len(b) >= 4:
		total, m.MediumType, m.Specific, blocks = 1+int(b[0]), b[1], b[2], int(b[3])
		b = b[4:min(len(b), max(total, 4))]
	case !short && len(b) >= 8:
		total, m.MediumType, m.Specific = 2+int(binary.BigEndian.Uint16(b)), b[2], b[3]
		blocks = int(binary.BigEndian.Uint16(b[6:]))
		b = b[8:min(len(b), max(total, 8))]
	default:
		return nil, fmt.Errorf("MODE SENSE: the answer of %d bytes has no header", len(b))
	}
	if blocks > len(b) {
		return nil, fmt.Errorf("MODE SENSE: %d bytes of block descriptors in an answer with %d", blocks, len(b))
	}
	m.Blocks, b = b[:blocks:blocks], b[blocks:]
	page, err := cutPage(b, p)
	if err != nil {
		return nil, fmt.Errorf("MODE SENSE: page %#02x/%02x: %w", p.Page, p.Subpage, err)
	}
	m.Page = page
	return m, nil
}

// cutPage checks that b begins with a page, which it returns.
func cutPage(b []byte, p ModePage) ([]byte, error) {
	if len(b) == 0 && p.Page == 0 {
		return nil, nil // page 0 is vendor specific, and asked for only for the header
	}
	head, n := 2, 0
	if len(b) >= 2 && b[0]&0x40 == 0 {
		n = int(b[1])
	} else if len(b) >= 4 {
		head, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	} else {
		return nil, errors.New("the device sent no page")
	}
	if subpage := b[0]&0x40 != 0; b[0]&0x3f != p.Page&0x3f || subpage && b[1] != p.Subpage || !subpage && p.Subpage != 0 {
		return nil, fmt.Errorf("the device sent another page, which begins with %x", b[:2])
	}
	if head+n > len(b) {
		return nil, fmt.Errorf("the page has %d bytes and %d came", head+n, len(b))
	}
	return b[: head+n : head+n], nil
}

// Append adds the parameters for MODE SELECT: lengths that are reserved there
// are zero, and so are the bits that only a device sets.
func (m *Mode) Append(b []byte) []byte {
	if m.Short {
		b = append(b, 0, m.MediumType, m.Specific&0x7f, byte(len(m.Blocks)))
	} else {
		b = append(b, 0, 0, m.MediumType, m.Specific&0x7f, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(len(m.Blocks)))
	}
	b = append(b, m.Blocks...)
	at := len(b)
	b = append(b, m.Page...)
	if at < len(b) {
		b[at] &^= 0x80 // PS: parameters can be saved
	}
	return b
}

// WriteMode sets a mode page to what m says (MODE SELECT). The next command of
// every other host gets a unit attention.
func WriteMode(t Transport, m *Mode) error {
	data := m.Append(nil)
	cdb := []byte{byte(ModeSelect10), 0x10, 0, 0, 0, 0, 0, byte(len(data) >> 8), byte(len(data)), 0}
	limit := 0xffff
	if m.Short {
		cdb, limit = []byte{byte(ModeSelect6), 0x10, 0, 0, byte(len(data)), 0}, 0xff
	}
	if len(data) > limit || len(m.Blocks) > limit {
		return fmt.Errorf("%s: %d bytes of parameters, at most %d are possible", OpcodeOf(cdb), len(data), limit)
	}
	_, err := t.Do(Command{CDB: cdb, Dir: Out, Data: data, Timeout: modeTimeout})
	return err
}
