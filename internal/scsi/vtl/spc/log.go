package spc

import "encoding/binary"

// Parameter is one figure of a log page.
type Parameter struct {
	Code    uint16
	Control byte
	Value   []byte
}

// Count is a parameter that is a number of n bytes.
func Count(code uint16, v uint64, n int) Parameter {
	return Parameter{code, 0x00, binary.BigEndian.AppendUint64(nil, v)[8-min(n, 8):]}
}

// List is a parameter that is a binary list.
func List(code uint16, v []byte) Parameter { return Parameter{code, 0x03, v} }

// LogPage is a log page.
type LogPage struct {
	Code   byte
	Params func() []Parameter // nil for page 0, which lists the others
}

// LogSense answers LOG SENSE with the page that it asks for.
func LogSense(cdb, in []byte, pages []LogPage, a Answers) (int, error) {
	code, sub := cdb[2]&0x3f, cdb[3]
	from, allowed := binary.BigEndian.Uint16(cdb[5:]), int(binary.BigEndian.Uint16(cdb[7:]))
	if sub != 0 && !(code == 0 && sub == 0xff) || cdb[1]&0x03 != 0 {
		return 0, BadField()
	}
	if code == 0 {
		return a.Put(in, logList(pages, sub), allowed), nil
	}
	for _, p := range pages {
		if p.Code != code {
			continue
		}
		b := []byte{code, 0, 0, 0}
		last := uint16(0)
		for _, v := range p.Params() {
			last = max(last, v.Code)
			if v.Code < from {
				continue
			}
			b = binary.BigEndian.AppendUint16(b, v.Code)
			b = append(append(b, v.Control, byte(len(v.Value))), v.Value...)
		}
		if from > last {
			return 0, BadField()
		}
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
		return a.Put(in, b, allowed), nil
	}
	return 0, BadField()
}

func logList(pages []LogPage, sub byte) []byte {
	b := []byte{0, sub, 0, 0}
	if sub != 0 {
		b[0] = 0x40
	}
	add := func(code byte) {
		if b = append(b, code); sub != 0 {
			b = append(b, 0)
		}
	}
	add(0)
	for _, p := range pages {
		add(p.Code)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
	return b
}
