package changer

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// Bits of READ ELEMENT STATUS.
const (
	wantTags = 0x10 // byte 1: VOLTAG
	wantIDs  = 0x01 // byte 6: DVCID
)

// Flags of an element.
const (
	isFull   = 0x01
	isImport = 0x02 // a person put it there
	isOdd    = 0x04 // see the additional sense code
	isNear   = 0x08 // the transport reaches it
	isExport = 0x10 // media can go out here
	isEntry  = 0x20 // media can come in here
)

const (
	baseSize = 12 // of a descriptor without what was asked for
	tagSize  = 36
)

func (c *Changer) readElementStatus(r *request) (int, error) {
	be := binary.BigEndian
	want, tags, ids := kind(r.cdb[1]&0x0f), r.cdb[1]&wantTags != 0, r.cdb[6]&wantIDs != 0
	start, most := be.Uint16(r.cdb[2:]), int(be.Uint16(r.cdb[4:]))
	allowed := int(r.cdb[7])<<16 | int(r.cdb[8])<<8 | int(r.cdb[9])
	q := &c.cfg.Quirks
	switch {
	case want > dataTransfer, tags && ids && q.NoTagWithID, ids && q.NoID:
		return 0, spc.BadField()
	case start > c.elements[len(c.elements)-1].address:
		return 0, noElement()
	}
	if q.ShortAllocation {
		allowed &= 0xffff
	}
	answer := make([]byte, 8, 4096)
	n := 0
	for _, k := range []kind{transport, importExport, dataTransfer, storage} { // by address
		if want != 0 && want != k {
			continue
		}
		var list []*element
		for _, e := range c.elements {
			if e.kind == k && e.address >= start && n < most {
				list = append(list, e)
				n++
			}
		}
		if len(list) == 0 {
			continue
		}
		if len(answer) == 8 {
			be.PutUint16(answer, list[0].address)
		}
		answer = c.appendPage(answer, k, list, tags, ids)
	}
	if q.MissingElements {
		n++
	}
	be.PutUint16(answer[2:], uint16(n))
	be.PutUint32(answer[4:], uint32(len(answer)-8))
	return c.answers.Put(r.in, answer, allowed), nil
}

// appendPage adds the elements of one kind.
func (c *Changer) appendPage(b []byte, k kind, list []*element, tags, ids bool) []byte {
	be := binary.BigEndian
	var body []byte
	for _, e := range list {
		body = c.appendDescriptor(body, e, tags, ids)
	}
	page := make([]byte, 8)
	page[0] = byte(k)
	if tags {
		page[1] = 0x80 // PVolTag
	}
	be.PutUint16(page[2:], uint16(len(body)/len(list)))
	be.PutUint32(page[4:], uint32(len(body)))
	return append(append(b, page...), body...)
}

func (c *Changer) appendDescriptor(b []byte, e *element, tags, ids bool) []byte {
	d := make([]byte, baseSize)
	be := binary.BigEndian
	be.PutUint16(d, e.address)
	d[2] = c.flags(e)
	if m := e.medium; m != nil {
		d[9] = byte(m.Kind)
		if e.from != 0 && !c.cfg.Quirks.NoSource {
			d[9] |= 0x80 // SVALID
			be.PutUint16(d[10:], e.from)
		}
		if m.Barcode == "" && tags {
			d[2] |= isOdd
			d[4], d[5] = 0x30, 0x00 // what it is cannot be read
		}
	}
	if tags && !(e.kind == transport && c.cfg.Quirks.NoTransportTag) {
		tag := make([]byte, tagSize)
		if e.medium != nil && e.medium.Barcode != "" {
			copy(tag, spc.Text(e.medium.Barcode, 32))
		}
		d = append(d, tag...)
	}
	id := []byte{0, 0, 0, 0}
	if ids && e.kind == dataTransfer {
		id = c.driveID(int(e.address - firstDrive))
	}
	return append(append(b, d...), id...)
}

// driveID is the identification descriptor of a drive.
func (c *Changer) driveID(n int) []byte {
	vendor, product, serial := c.cfg.Drives[n].Identity()
	text, kind := spc.Text(vendor, 8)+spc.Text(product, 16)+spc.Text(serial, 10), byte(1)
	if c.cfg.Quirks.SerialOnly {
		text, kind = spc.Text(serial, 10), 0
	}
	return append([]byte{0x02, kind, 0, byte(len(text))}, text...)
}

func (c *Changer) flags(e *element) (f byte) {
	if e.medium != nil {
		f = isFull
	}
	switch e.kind {
	case storage:
		f |= isNear
	case importExport:
		f |= isNear | isExport | isEntry
		if e.medium != nil && e.from == 0 {
			f |= isImport
		}
	case dataTransfer:
		threaded, _ := c.cfg.Drives[e.address-firstDrive].State()
		if !threaded {
			f |= isNear
		}
	}
	return f
}
