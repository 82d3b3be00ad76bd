package changer

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

// kind is the kind of an element.
type kind uint8

const (
	transport    kind = 1
	storage      kind = 2
	importExport kind = 3
	drive        kind = 4
)

// element is one element as the changer describes it.
type element struct {
	kind                  kind
	address               uint16
	full                  bool
	wrong                 uint16 // ASC and ASCQ of what is wrong with it; 0: nothing
	label                 string
	source                uint16 // the slot of its medium, where hasSource
	hasSource             bool
	vendor, model, serial string
}

// Lengths of the answer.
const (
	head    = 8
	fixed   = 12 // of an element, before tags
	tag     = 36
	tagText = 32
)

// parse decodes an answer to READ ELEMENT STATUS.
func parse(b []byte) ([]element, error) {
	if len(b) < head {
		return nil, fmt.Errorf("READ ELEMENT STATUS: the answer has %d bytes", len(b))
	}
	n := u24(b[5:])
	b = b[head:]
	b = b[:min(n, len(b))] // some count more than they send, some send more than they count
	var all []element
	for len(b) >= head {
		k, flags, size := kind(b[0]), b[1], int(binary.BigEndian.Uint16(b[2:]))
		n := u24(b[5:])
		b = b[head:]
		page := b[:min(n, len(b))]
		b = b[len(page):]
		if len(page) > 0 && size < fixed {
			return nil, fmt.Errorf("READ ELEMENT STATUS: an element of %d bytes", size)
		}
		for ; len(page) > 0 && len(page) >= size; page = page[size:] {
			all = append(all, parseElement(k, flags, page[:size]))
		}
	}
	return all, nil
}

// parseElement decodes one element. Tags that do not fit are not there.
func parseElement(k kind, flags byte, b []byte) element {
	e := element{
		kind: k, address: binary.BigEndian.Uint16(b), full: b[2]&0x01 != 0,
		source: binary.BigEndian.Uint16(b[10:]), hasSource: b[9]&0x80 != 0,
	}
	if b[2]&0x04 != 0 {
		e.wrong = uint16(b[4])<<8 | uint16(b[5])
	}
	b = b[fixed:]
	if flags&0x80 != 0 && len(b) >= tag {
		e.label = scsi.Text(b[:tagText])
		b = b[tag:]
	}
	if flags&0x40 != 0 && len(b) >= tag {
		b = b[tag:]
	}
	if k == drive {
		e.identify(b)
	}
	return e
}

// identify takes what a drive is from its identification. Other forms than the
// two that are in use say nothing.
func (e *element) identify(b []byte) {
	const ascii = 2
	if len(b) < 4 || b[0]&0x0f != ascii || 4+int(b[3]) > len(b) {
		return
	}
	id := b[4 : 4+int(b[3])]
	switch kind := b[1] & 0x0f; {
	case kind == 0:
		e.serial = scsi.Text(id)
	case kind == 1 && len(id) > 24:
		e.vendor, e.model, e.serial = scsi.Text(id[:8]), scsi.Text(id[8:24]), scsi.Text(id[24:])
	}
}

func u24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }
