package inspect

import (
	"encoding/binary"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	vh "github.com/holdfast-backup/holdfast/internal/format/volumeheader"
)

// volumeMagic begins sector 0 of a volume.
var volumeMagic = []byte{0x26, 0x3d, 0xbe, 0x52, 0xba, 0x57, 0x67, 0x02}

// volume explains the header of a volume. The payload has no form.
func (d *dump) volume(head []byte) error {
	d.field(head, 0, 8, "magic", "", "")
	if d.short(head, vh.Size, "the header of a volume") {
		return nil
	}
	h, err := vh.Parse(head)
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	be := binary.BigEndian
	d.field(head, 8, 2, "version", fmt.Sprint(be.Uint16(head[8:])), problem)
	d.field(head, 10, digest.Size, "hash of the image", fmt.Sprintf("%x", head[10:10+digest.Size]), "")
	if err != nil || h.Record == nil {
		d.field(head, vh.ShortSize, vh.Size-vh.ShortSize, "no record", "whatever was there", "")
		return nil
	}
	d.zeros(head, 42, 6)
	d.field(head, 48, 8, "magic of the record", "", "")
	d.field(head, 56, 2, "version of the record", fmt.Sprint(be.Uint16(head[56:])), "")
	d.field(head, 58, 1, "state", h.Record.State.String(), "")
	d.zeros(head, 59, 5)
	d.field(head, 64, 8, "image size", byteCount(be.Uint64(head[64:])), "")
	d.field(head, 72, 8, "payload", fmt.Sprintf("offset %#x", be.Uint64(head[72:])), "")
	d.field(head, 80, 8, "changed", unixTime(be.Uint64(head[80:])), "")
	d.field(head, 88, digest.Size, "digest of the image", fmt.Sprintf("%x", head[88:88+digest.Size]), "")
	at := 120
	for _, name := range []string{"repository", "snapshot", "archive"} { // Parse has looked at the lengths
		n := int(be.Uint16(head[at:]))
		d.field(head, at, 2+n, name, fmt.Sprintf("%q", head[at+2:at+2+n]), "")
		at += 2 + n
	}
	d.zeros(head, at, vh.Size-4-at)
	d.field(head, vh.Size-4, 4, "crc", fmt.Sprintf("%08x", be.Uint32(head[vh.Size-4:])), "")
	return nil
}
