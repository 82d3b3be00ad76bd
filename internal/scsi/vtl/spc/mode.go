package spc

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// Page is a mode page. Body is what follows its header of 2 bytes, or of 4 with
// a subpage.
type Page struct {
	Code, Sub  byte
	Body       []byte
	Changeable []byte // the bits that MODE SELECT may change; nil: none
}

func (p *Page) append(b []byte, control byte) []byte {
	if p.Sub == 0 {
		b = append(b, p.Code, byte(len(p.Body)))
	} else {
		b = append(b, p.Code|0x40, p.Sub, byte(len(p.Body)>>8), byte(len(p.Body)))
	}
	if control != 1 {
		return append(b, p.Body...)
	}
	mask := make([]byte, len(p.Body))
	copy(mask, p.Changeable)
	return append(b, mask...)
}

// ModeSense answers MODE SENSE(6) and (10). Descriptor is the block descriptor, or
// nothing.
func ModeSense(cdb, in []byte, medium, specific byte, descriptor []byte, pages []Page, a Answers) (int, error) {
	ten := scsi.Opcode(cdb[0]) == scsi.ModeSense10
	control, code, sub := cdb[2]>>6, cdb[2]&0x3f, cdb[3]
	if control == 3 {
		return 0, NoSaved()
	}
	if cdb[1]&0x08 != 0 {
		descriptor = nil
	}
	var list []byte
	found := code == 0x00 && sub == 0 // no page at all: the header and the descriptor
	for _, p := range pages {
		if (code == 0x3f || code == p.Code) && (sub == 0xff || sub == p.Sub) {
			list = p.append(list, control)
			found = true
		}
	}
	if !found {
		return 0, BadField()
	}
	var b []byte
	if ten {
		b = binary.BigEndian.AppendUint16(nil, uint16(6+len(descriptor)+len(list)))
		b = append(b, medium, specific, 0, 0, 0, byte(len(descriptor)))
		b = append(append(b, descriptor...), list...)
		return a.Put(in, b, int(binary.BigEndian.Uint16(cdb[7:]))), nil
	}
	length := min(3+len(descriptor)+len(list), 0xff)
	b = append(b, byte(length), medium, specific, byte(len(descriptor)))
	b = append(append(b, descriptor...), list...)
	return a.Put(in, b, int(cdb[4])), nil
}

// Selection is what a MODE SELECT asks for.
type Selection struct {
	Specific   byte   // device-specific parameter of the header
	Descriptor []byte // 8 bytes, or none
	Pages      []Page // as they came; their Body has the length of the unit's page
}

// ModeSelect takes the parameter list of MODE SELECT(6) and (10) apart and holds
// it to the pages of the unit: a page that it lacks or another length is a bad
// parameter, and so is a bit that differs and may not be changed.
func ModeSelect(cdb, out []byte, pages []Page) (*Selection, error) {
	length, header := int(cdb[4]), 4
	if scsi.Opcode(cdb[0]) == scsi.ModeSelect10 {
		length, header = int(binary.BigEndian.Uint16(cdb[7:])), 8
	}
	switch {
	case cdb[1]&0x01 != 0: // there is no place to save pages
		return nil, BadField()
	case length == 0:
		return nil, nil
	case len(out) < length || length < header:
		return nil, BadLength()
	}
	b := out[:length]
	s := &Selection{Specific: b[2]}
	described := int(b[3])
	if header == 8 {
		s.Specific = b[3]
		described = int(binary.BigEndian.Uint16(b[6:]))
	}
	b = b[header:]
	switch {
	case described != 0 && described != 8:
		return nil, BadParameter()
	case described > len(b):
		return nil, BadLength()
	}
	s.Descriptor, b = b[:described], b[described:]
	for len(b) > 0 {
		p, n, err := selectPage(b, pages)
		if err != nil {
			return nil, err
		}
		s.Pages, b = append(s.Pages, p), b[n:]
	}
	return s, nil
}

func selectPage(b []byte, pages []Page) (p Page, n int, err error) {
	p.Code = b[0] & 0x3f
	start, length := 2, 0
	switch {
	case len(b) < 2:
		return p, 0, BadLength()
	case b[0]&0x40 == 0:
		length = int(b[1])
	case len(b) < 4:
		return p, 0, BadLength()
	default:
		p.Sub, start = b[1], 4
		length = int(binary.BigEndian.Uint16(b[2:]))
	}
	if len(b) < start+length {
		return p, 0, BadLength()
	}
	p.Body = b[start : start+length]
	for _, have := range pages {
		if have.Code != p.Code || have.Sub != p.Sub {
			continue
		}
		if len(have.Body) != length {
			return p, 0, BadParameter()
		}
		for i := range length {
			var may byte
			if i < len(have.Changeable) {
				may = have.Changeable[i]
			}
			if (have.Body[i]^p.Body[i])&^may != 0 {
				return p, 0, BadParameter()
			}
		}
		return p, start + length, nil
	}
	return p, 0, BadParameter()
}
