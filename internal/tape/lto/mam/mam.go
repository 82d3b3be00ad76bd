package mam

import (
	"bytes"
	be "encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Attribute is one attribute for people and for JSON, with the fields of PBS.
type Attribute struct {
	ID    ID     `json:"id"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Raw is an attribute with the bytes of its value.
type Raw struct {
	ID       ID
	ReadOnly bool
	Format   uint8 // 0 binary, 1 ASCII, 2 text
	Value    []byte
}

// Parse decodes an answer to READ ATTRIBUTE. What it returns refers to b.
func Parse(b []byte) ([]Raw, error) {
	if len(b) < 4 {
		return nil, errors.New("the attributes of the cartridge have no length in front")
	}
	n := uint64(be.BigEndian.Uint32(b))
	if b = b[4:]; n > uint64(len(b)) {
		return nil, fmt.Errorf("the attributes of the cartridge have %d bytes, and %d came", n, len(b))
	}
	var all []Raw
	for b = b[:n]; len(b) > 0; {
		if len(b) < 5 {
			return nil, errors.New("the attributes of the cartridge end inside of one")
		}
		k := 5 + int(be.BigEndian.Uint16(b[3:]))
		if k > len(b) {
			return nil, fmt.Errorf("attribute %04x has %d bytes, and %d came", be.BigEndian.Uint16(b), k-5, len(b)-5)
		}
		all = append(all, Raw{ID(be.BigEndian.Uint16(b)), b[2]&0x80 != 0, b[2] & 3, b[5:k]})
		b = b[k:]
	}
	return all, nil
}

// Append adds attributes in the form of WRITE ATTRIBUTE, the length in front.
func Append(b []byte, all []Raw) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	for _, a := range all {
		b = be.BigEndian.AppendUint16(b, uint16(a.ID))
		flags := a.Format & 3
		if a.ReadOnly {
			flags |= 0x80
		}
		b = append(b, flags)
		b = be.BigEndian.AppendUint16(b, uint16(len(a.Value)))
		b = append(b, a.Value...)
	}
	be.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// Describe gives the attributes their names. odd tells of those that were left
// out because their length is not that of the standard.
func Describe(all []Raw) (list []Attribute, odd []string) {
	list = []Attribute{}
	for _, a := range all {
		x, known := attributes[a.ID]
		switch {
		case !known:
		case x.size != 0 && len(a.Value) != x.size:
			odd = append(odd, fmt.Sprintf("attribute %04x (%s) has %d bytes, not %d", uint16(a.ID), x.name, len(a.Value), x.size))
		default:
			list = append(list, Attribute{a.ID, x.name, x.show(a.Value)})
		}
	}
	return list, odd
}

// show is a value for people.
func (x attribute) show(v []byte) string {
	switch x.kind {
	case number:
		return strconv.FormatUint(Number(v), 10)
	case ascii, text:
		v, _, _ = bytes.Cut(v, []byte{0})
		return strings.TrimSpace(strings.Map(printable, strings.ToValidUTF8(string(v), "?")))
	}
	return hex.EncodeToString(v)
}

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

// Number is a value of up to 8 bytes as a number, 0 for others.
func Number(v []byte) uint64 {
	if len(v) > 8 {
		return 0
	}
	var b [8]byte
	copy(b[8-len(v):], v)
	return be.BigEndian.Uint64(b[:])
}

// Text makes an attribute of a string: cut to its length, or filled with zeros
// as PBS does. Empty, it deletes the attribute.
func Text(id ID, s string) Raw {
	x := attributes[id]
	a := Raw{ID: id, Format: 1}
	if x.kind == text {
		a.Format = 2
	}
	if s == "" {
		return a
	}
	a.Value = make([]byte, x.size)
	if len(s) > x.size {
		s = strings.ToValidUTF8(s[:x.size], "")
	}
	copy(a.Value, s)
	return a
}
