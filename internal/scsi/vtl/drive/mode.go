package drive

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// options are what MODE SELECT changes.
type options struct {
	buffered    bool
	blockLength int // 0: as long as each command says
	compression bool
	earlier     int64 // length of the programmable early warning zone, in bytes
	warned      bool  // of entering it
}

func defaults() options { return options{buffered: true, compression: true} }

// mediumType is the second byte of the mode header.
func (d *Drive) mediumType() byte {
	if d.cart == nil || !d.threaded {
		return 0
	}
	f, _ := d.cart.Memory.Density.Format()
	t := byte(min(f.Generation, 10))<<4 | 0x08
	if d.cart.Memory.WORM {
		t |= 0x04
	}
	return t
}

// specific is the device-specific parameter of the mode header.
func (d *Drive) specific() byte {
	var b byte
	if d.options.buffered {
		b |= 0x10
	}
	if d.threaded && d.cart.Memory.WriteProtect {
		b |= 0x80
	}
	return b
}

// descriptor is the block descriptor.
func (d *Drive) descriptor() []byte {
	b := make([]byte, 8)
	if d.threaded {
		b[0] = byte(d.cart.Memory.Density)
	}
	binary.BigEndian.PutUint32(b[4:], uint32(d.options.blockLength))
	return b
}

func (d *Drive) modeSense(r *request) (int, error) {
	return spc.ModeSense(r.cdb, r.in, d.mediumType(), d.specific(), d.descriptor(), d.modePages(), d.answers)
}

// modePages are the pages with their present values.
func (d *Drive) modePages() []spc.Page {
	flag := func(on bool, bit byte) byte {
		if on {
			return bit
		}
		return 0
	}
	compression := make([]byte, 14)
	compression[0] = 0x40 | flag(d.options.compression, 0x80) // DCC, DCE
	compression[1] = 0x80                                     // DDE
	for i := 2; i < 10; i++ {
		compression[i] = 0xff // the default algorithms
	}
	device := make([]byte, 14)
	device[6] = 0x40 // LOIS: it knows object numbers
	device[8] = 0x18 // EEG, SEW: it writes EOD, and flushes at the early warning
	device[12] = flag(d.options.compression, 0x01)
	device[13] = flag(d.threaded && d.cart.Memory.WORM, 0x80)
	extension := make([]byte, 28)
	binary.BigEndian.PutUint16(extension[2:], uint16(d.options.earlier/1_000_000))
	partition := make([]byte, 8)
	partition[2] = 0x10 // sizes are in MB
	if d.threaded {
		partition[6], partition[7] = 0xff, 0xff // the one partition is the whole medium
	}
	pages := []spc.Page{
		{Code: 0x01, Body: []byte{0, 0x40, 0, 0, 0, 0, 0x40, 0, 0, 0}, Changeable: []byte{0xff, 0xff, 0, 0, 0, 0, 0xff}},
		{Code: 0x02, Body: make([]byte, 14), Changeable: allBits(14)},
		{Code: 0x0a, Body: []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Changeable: []byte{0x0e, 0xf0}},
		{Code: 0x0f, Body: compression, Changeable: []byte{0x80, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		{Code: 0x10, Body: device, Changeable: []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff}},
	}
	if d.cfg.Generation >= 5 {
		pages = append(pages, spc.Page{Code: 0x10, Sub: 0x01, Body: extension, Changeable: []byte{0, 0, 0xff, 0xff}})
	}
	return append(pages,
		spc.Page{Code: 0x11, Body: partition},
		spc.Page{Code: 0x1c, Body: []byte{0x08, 0x03, 0, 0, 0, 0, 0, 0, 0, 0}, Changeable: []byte{0xff, 0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},
		spc.Page{Code: 0x1d, Body: append([]byte{flag(d.threaded && d.cart.Memory.WORM, 0x01), 0x01, 0x02, 0x01}, make([]byte, 26)...)},
	)
}

func allBits(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0xff
	}
	return b
}

func (d *Drive) modeSelect(r *request) (int, error) {
	if r.cdb[1]&0x10 == 0 && len(r.out) > 0 && d.cfg.Generation >= 8 {
		// PF 0 is a format of long ago; younger drives refuse it.
		return 0, spc.BadField()
	}
	s, err := spc.ModeSelect(r.cdb, r.out, d.modePages())
	if err != nil || s == nil {
		return 0, err
	}
	next := d.options
	switch s.Specific >> 4 & 0x07 {
	case 0:
		next.buffered = false
	case 1:
		next.buffered = true
	default:
		return 0, spc.BadParameter()
	}
	if len(s.Descriptor) > 0 {
		if next.blockLength = u24(s.Descriptor[5:]); next.blockLength > cartridge.MaxBlock {
			return 0, spc.BadParameter()
		}
		if code := s.Descriptor[0]; code != 0 && code != 0x7f && code != d.descriptor()[0] {
			return 0, spc.BadParameter()
		}
	}
	for _, p := range s.Pages {
		switch {
		case p.Code == 0x0f:
			next.compression = p.Body[0]&0x80 != 0
		case p.Code == 0x10 && p.Sub == 0:
			next.compression = p.Body[12] != 0
		case p.Code == 0x10 && p.Sub == 1:
			next.earlier = int64(binary.BigEndian.Uint16(p.Body[2:])) * 1_000_000
			next.warned = false
		}
	}
	d.options = next
	return len(r.out), nil
}
