package drive

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/cartridge"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl/spc"
)

// Formats of attributes.
const (
	binaryValue = 0x00
	asciiValue  = 0x01
	textValue   = 0x02
	readOnly    = 0x80
)

// attribute is one of the medium's memory.
type attribute struct {
	id     uint16
	format byte // with readOnly
	value  []byte
}

// hostAttributes are those that a host may write: their format and length; 0: up
// to maxAttribute.
var hostAttributes = map[uint16]struct {
	format byte
	length int
}{
	0x0800: {asciiValue, 8},   // application vendor
	0x0801: {asciiValue, 32},  // application name
	0x0802: {asciiValue, 8},   // application version
	0x0803: {textValue, 160},  // label for people
	0x0804: {asciiValue, 12},  // date and time last written
	0x0805: {binaryValue, 1},  // how texts are encoded
	0x0806: {asciiValue, 32},  // barcode
	0x0807: {textValue, 80},   // owning host
	0x0808: {textValue, 160},  // media pool
	0x0809: {asciiValue, 16},  // label of the partition
	0x080a: {binaryValue, 1},  // it loads and unloads anywhere
	0x080b: {asciiValue, 16},  // version of the application's format
	0x080c: {binaryValue, 0},  // volume coherency information
	0x0820: {binaryValue, 36}, // GUID of the medium
	0x0821: {binaryValue, 36}, // and of its pool
}

const (
	maxAttribute   = 1023
	memoryCapacity = 16 << 10 // bytes of the chip
	hostCapacity   = 4 << 10  // of them for hosts: more than all their attributes together
)

// mediumAttributes are those that the drive keeps.
func (d *Drive) mediumAttributes() []attribute {
	m := &d.cart.Memory
	f, _ := m.Density.Format()
	num := func(id uint16, v uint64, n int) attribute {
		return attribute{id, binaryValue | readOnly, spc.Count(0, v, n).Value}
	}
	text := func(id uint16, s string, n int) attribute {
		return attribute{id, asciiValue | readOnly, []byte(spc.Text(s, n))}
	}
	kind, info := uint64(0x00), uint64(0)
	switch {
	case m.Cleaning:
		kind, info = 0x01, uint64(m.Uses)
	case m.WORM:
		kind = 0x80
	}
	list := []attribute{
		num(0x0000, uint64(max(m.Capacity-d.cart.Used(), 0)/mib), 8),
		num(0x0001, uint64(m.Capacity/mib), 8),
		{0x0002, binaryValue | readOnly, d.alerts.bits()},
		num(0x0003, m.Loads, 8),
		num(0x0004, uint64(hostCapacity-hostSize(m.Host)), 8),
		text(0x0005, "LTO-CVE", 8),
		num(0x0006, uint64(m.Density), 1),
		num(0x0007, m.Formatted, 2),
		num(0x0009, m.Changes, 4),
	}
	for i, name := range m.Drives {
		list = append(list, text(0x020a+uint16(i), name, 40))
	}
	return append(list,
		num(0x0220, uint64((m.Written+d.usage.written)/mib), 8),
		num(0x0221, uint64((m.Read+d.usage.reads)/mib), 8),
		num(0x0222, uint64(d.usage.written/mib), 8),
		num(0x0223, uint64(d.usage.reads/mib), 8),
		text(0x0400, "HOLDFAST", 8),
		text(0x0401, m.Serial, 32),
		num(0x0402, uint64(f.Meters), 4),
		num(0x0403, 127, 4), // half an inch
		text(0x0404, "LTO-CVE", 8),
		num(0x0405, uint64(m.Density), 1),
		text(0x0406, m.Manufactured, 8),
		num(0x0407, memoryCapacity, 8),
		num(0x0408, kind, 1),
		num(0x0409, info, 2),
	)
}

// attributes lists all, by their ids.
func (d *Drive) attributes() []attribute {
	list := d.mediumAttributes()
	for _, id := range slices.Sorted(maps.Keys(d.cart.Memory.Host)) {
		a := attribute{id: uint16(id), value: d.cart.Memory.Host[id]}
		a.format = hostAttributes[a.id].format
		list = append(list, a)
	}
	return list
}

// Service actions of READ ATTRIBUTE.
const (
	attributeValues     = 0x00
	attributeList       = 0x01
	attributeVolumes    = 0x02
	attributePartitions = 0x03
	attributeSupported  = 0x05
)

func (d *Drive) readAttribute(r *request) (int, error) {
	be := binary.BigEndian
	first, allowed := be.Uint16(r.cdb[8:]), int(min(be.Uint32(r.cdb[10:]), 1<<30))
	if r.cdb[5] != 0 || r.cdb[7] != 0 { // there is one volume with one partition
		return 0, spc.BadField()
	}
	var b []byte
	switch r.cdb[1] & 0x1f {
	case attributeValues:
		b = make([]byte, 4)
		for _, a := range d.attributes() {
			if a.id >= first {
				b = append(be.AppendUint16(b, a.id), a.format)
				b = append(be.AppendUint16(b, uint16(len(a.value))), a.value...)
			}
		}
	case attributeList:
		b = make([]byte, 4)
		for _, a := range d.attributes() {
			b = be.AppendUint16(b, a.id)
		}
	case attributeSupported:
		b = make([]byte, 4)
		for _, a := range d.mediumAttributes() {
			b = be.AppendUint16(b, a.id)
		}
		for _, id := range slices.Sorted(maps.Keys(hostAttributes)) {
			b = be.AppendUint16(b, id)
		}
	case attributeVolumes, attributePartitions:
		return d.answers.Put(r.in, []byte{0, 2, 0, 1}, allowed), nil
	default:
		return 0, spc.BadField()
	}
	be.PutUint32(b, uint32(len(b)-4))
	return d.answers.Put(r.in, b, allowed), nil
}

func (d *Drive) writeAttribute(r *request) (int, error) {
	be := binary.BigEndian
	length := be.Uint32(r.cdb[10:])
	switch {
	case r.cdb[5] != 0 || r.cdb[7] != 0:
		return 0, spc.BadField()
	case length == 0:
		return 0, nil
	case uint64(length) > uint64(len(r.out)) || length < 4:
		return 0, spc.BadLength()
	case d.cart.Memory.WriteProtect:
		return 0, spc.Sense(scsi.DataProtect, 0x2700)
	}
	b := r.out[:length]
	n := be.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return 0, spc.BadLength()
	}
	host := maps.Clone(d.cart.Memory.Host) // all attributes are written, or none
	if host == nil {
		host = map[int][]byte{}
	}
	if err := apply(host, b[4:4+n]); err != nil {
		return 0, err
	}
	before := d.cart.Memory.Host
	d.cart.Memory.Host = host
	if err := d.cart.SaveMemory(); err != nil {
		d.cart.Memory.Host = before
		return 0, d.diskError(err)
	}
	return int(length), nil
}

// apply makes the changes of a list of attributes.
func apply(host map[int][]byte, b []byte) error {
	be := binary.BigEndian
	for len(b) > 0 {
		if len(b) < 5 {
			return spc.BadLength()
		}
		id, format, n := be.Uint16(b), b[2]&0x03, int(be.Uint16(b[3:]))
		if b = b[5:]; n > len(b) {
			return spc.BadLength()
		}
		known, ok := hostAttributes[id]
		switch {
		case !ok || n > maxAttribute:
			return spc.BadParameter()
		case n == 0:
			delete(host, int(id))
		case format != known.format, known.length != 0 && n != known.length:
			return spc.BadParameter()
		default:
			host[int(id)] = slices.Clone(b[:n])
		}
		b = b[n:]
	}
	return nil
}

func hostSize(host map[int][]byte) (n int) {
	for _, v := range host {
		n += 5 + len(v)
	}
	return n
}

func (d *Drive) reportDensity(r *request) (int, error) {
	be := binary.BigEndian
	if r.cdb[1]&0x02 != 0 { // types of media
		return 0, spc.BadField()
	}
	loaded := r.cdb[1]&0x01 != 0
	if loaded {
		if err := d.ready(); err != nil {
			return 0, err
		}
	}
	b := make([]byte, 4)
	for _, f := range cartridge.Formats() {
		if loaded && f.Density != d.cart.Memory.Density || !loaded && !d.reads(f.Density) {
			continue
		}
		e := make([]byte, 52)
		e[0], e[1] = byte(f.Density), byte(f.Density)
		if d.writes(f.Density) {
			e[2] |= 0x80 // WRTOK
		}
		if f.Generation == d.cfg.Generation {
			e[2] |= 0x20 // DEFLT
		}
		be.PutUint32(e[4:], uint32(f.BitsPerMM))
		be.PutUint16(e[8:], 127)
		be.PutUint16(e[10:], uint16(f.Tracks))
		be.PutUint32(e[12:], uint32(f.Capacity))
		copy(e[16:], spc.Text("LTO-CVE", 8))
		copy(e[24:], spc.Text(f.Short, 8))
		copy(e[32:], spc.Text("Ultrium "+f.Name[4:], 20))
		b = append(b, e...)
	}
	be.PutUint16(b, uint16(len(b)-2))
	return d.answers.Put(r.in, b, int(be.Uint16(r.cdb[7:]))), nil
}
