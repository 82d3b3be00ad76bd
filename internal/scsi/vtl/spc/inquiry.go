package spc

import (
	"encoding/binary"
	"fmt"
)

// Types of devices.
const (
	Tape    = 0x01
	Changer = 0x08
)

// Identity is who a unit says that it is.
type Identity struct {
	Type     byte
	Vendor   string // up to 8 characters
	Product  string // up to 16
	Revision string // up to 4
	Serial   string
	Pages    map[byte][]byte // further pages of vital product data, without their headers
}

// Inquiry answers INQUIRY.
func (id *Identity) Inquiry(cdb, in []byte, a Answers) (int, error) {
	allowed := int(binary.BigEndian.Uint16(cdb[3:]))
	if cdb[1]&0x01 == 0 {
		if cdb[2] != 0 || cdb[1]&0x02 != 0 {
			return 0, BadField()
		}
		return a.Put(in, id.standard(), allowed), nil
	}
	body, ok := id.page(cdb[2])
	if !ok {
		return 0, BadField()
	}
	page := []byte{id.Type, cdb[2], byte(len(body) >> 8), byte(len(body))}
	return a.Put(in, append(page, body...), allowed), nil
}

func (id *Identity) standard() []byte {
	b := make([]byte, 36, 74)
	b[0] = id.Type
	b[1] = 0x80 // media can be removed
	b[2] = 0x06 // SPC-4
	b[3] = 0x02
	b[7] = 0x02 // command queuing
	copy(b[8:], Text(id.Vendor, 8))
	copy(b[16:], Text(id.Product, 16))
	copy(b[32:], Text(id.Revision, 4))
	b = append(b, make([]byte, 58-36)...)
	b = append(b, 0x00, 0xa0) // SAM-5
	b = append(b, 0x04, 0x60) // SPC-4
	if id.Type == Tape {
		b = append(b, 0x05, 0x00) // SSC-4
	} else {
		b = append(b, 0x04, 0xa0) // SMC-3
	}
	b = append(b, make([]byte, 74-len(b))...)
	b[4] = byte(len(b) - 5)
	return b
}

func (id *Identity) page(code byte) ([]byte, bool) {
	switch code {
	case 0x00:
		list := []byte{0x00, 0x80, 0x83}
		for p := 0x84; p <= 0xff; p++ { // in rising order
			if _, ok := id.Pages[byte(p)]; ok {
				list = append(list, byte(p))
			}
		}
		return list, true
	case 0x80:
		return []byte(id.Serial), true
	case 0x83:
		// One designator: T10 vendor identification, in ASCII, of the unit.
		name := Text(id.Vendor, 8) + Text(id.Product, 16) + id.Serial
		return append([]byte{0x02, 0x01, 0x00, byte(len(name))}, name...), true
	}
	b, ok := id.Pages[code]
	return b, ok
}

// Text is s in n characters, with blanks at the end.
func Text(s string, n int) string { return fmt.Sprintf("%-*.*s", n, n, s) }

// ReportLUNs answers REPORT LUNS: there is unit 0.
func ReportLUNs(cdb, in []byte, a Answers) (int, error) {
	allowed := binary.BigEndian.Uint32(cdb[6:])
	if cdb[2] > 0x02 {
		return 0, BadField()
	}
	answer := make([]byte, 16)
	if cdb[2] == 0x01 { // only well known units, and there are none
		answer = answer[:8]
	}
	answer[3] = byte(len(answer) - 8)
	return a.Put(in, answer, int(min(allowed, 1<<30))), nil
}
