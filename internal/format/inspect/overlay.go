package inspect

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/overlay"
)

var overlayMagic = overlay.Meta{}.Append(nil)[:8]

// overlay explains header and map of an overlay file. The data has no form.
func (d *dump) overlay(head []byte) error {
	d.field(head, 0, 8, "magic", "", "")
	if d.short(head, overlay.HeaderSize, "an overlay's header") {
		return nil
	}
	m, err := overlay.ParseHeader(head)
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	le := binary.LittleEndian
	d.field(head, 8, 4, "crc of the header", fmt.Sprintf("%08x", le.Uint32(head[8:])), problem)
	d.field(head, 12, 4, "block size", byteCount(uint64(le.Uint32(head[12:]))), "")
	d.field(head, 16, 8, "image size", byteCount(le.Uint64(head[16:])), "")
	d.field(head, 24, 8, "data offset", fmt.Sprintf("offset %#x", le.Uint64(head[24:])), "")
	d.field(head, 32, 8, "created", unixTime(le.Uint64(head[32:])), "")
	d.field(head, 40, digest.Size, "index checksum of the image below", fmt.Sprintf("%x", head[40:40+digest.Size]), "")
	at := 72
	for _, name := range []string{"repository", "namespace", "snapshot", "archive"} {
		if at+2 > len(head) {
			break
		}
		n := int(le.Uint16(head[at:]))
		if at+2+n > len(head) {
			break // the header's problem says so
		}
		d.field(head, at, 2+n, name, fmt.Sprintf("%q", head[at+2:at+2+n]), "")
		at += 2 + n
	}
	if err != nil {
		return nil //nolint:nilerr // it was shown
	}
	d.zeros(head, at, overlay.HeaderSize-at)
	if err := d.overlayMap(m); err != nil {
		return err
	}
	if want := overlay.FileSize(m.Size); d.size != want {
		d.put(Field{Offset: d.size, Name: "end of file", Problem: fmt.Sprintf("the header asks for %d bytes", want)})
	}
	return nil
}

// overlayMap shows the map pages that were written: the first and the last,
// or as many as were asked for, and those that are damaged.
func (d *dump) overlayMap(m overlay.Meta) error {
	most := d.o.Entries
	if most == 0 {
		most = 8
	}
	var data, zero, shown int64
	pages := overlay.Pages(m.Size)
	for i := range pages {
		if overlay.SlotOffset(i+1, 0) > d.size {
			d.put(Field{Offset: d.size, Name: "end of file", Problem: fmt.Sprintf("it ends before map page %d of %d", i, pages)})
			return nil
		}
		b, err := d.read(overlay.SlotOffset(i, 0), 2*overlay.PageSize)
		if err != nil {
			return err
		}
		slots := [2][]byte{b[:overlay.PageSize], b[overlay.PageSize:]}
		p, err := overlay.ChoosePage(slots, i, overlay.Blocks(m.Size))
		if err != nil {
			d.slot(i, 0, slots[0], "", err.Error())
			continue
		}
		if p.Sequence == 0 {
			continue
		}
		here, gone := countStates(p)
		data, zero = data+here, zero+gone
		if shown++; most >= 0 && shown > int64(most) && i < pages-1 {
			continue
		}
		d.slot(i, p.Slot(), slots[p.Slot()], fmt.Sprintf("sequence %d, %d blocks here, %d zero", p.Sequence, here, gone), "")
	}
	d.put(Field{
		Offset: overlay.DataOffset(m.Size), Name: "data",
		Value: fmt.Sprintf("%d blocks here, %d zero, %d in the image below", data, zero, overlay.Blocks(m.Size)-data-zero),
	})
	return nil
}

func (d *dump) slot(page int64, slot int, b []byte, value, problem string) {
	d.put(Field{
		Offset: overlay.SlotOffset(page, slot), Length: overlay.PageSize, Raw: append([]byte(nil), b[:maxRaw]...),
		Name: fmt.Sprintf("map page %d, slot %d", page, slot), Value: value, Problem: problem,
	})
}

func countStates(p *overlay.Page) (data, zero int64) {
	for i := 0; i < overlay.PageBlocks; {
		s, n := p.Run(i, overlay.PageBlocks-i)
		switch s {
		case overlay.Data:
			data += int64(n)
		case overlay.Zero:
			zero += int64(n)
		case overlay.Base:
		}
		i += n
	}
	return data, zero
}
