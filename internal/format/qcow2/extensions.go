package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Types of header extensions. Others are passed over.
const (
	extEnd           = 0
	extBackingFormat = 0xe2792aca
	extFeatures      = 0x6803f857
	extBitmaps       = 0x23852875
	extDataFile      = 0x44415441
)

const featureSize = 48

// BitmapDirectory is where the persistent bitmaps are listed.
type BitmapDirectory struct {
	Count        uint32
	Size, Offset int64 // bytes
}

func (h *Header) parseExtensions(b []byte) error {
	be := binary.BigEndian
	for len(b) >= 8 {
		kind, n := be.Uint32(b), be.Uint32(b[4:])
		b = b[8:]
		if kind == extEnd {
			return nil
		}
		if uint64(n) > uint64(len(b)) {
			return fmt.Errorf("%w: header extension %08x of %d bytes does not fit", ErrFormat, kind, n)
		}
		if err := h.parseExtension(kind, b[:n]); err != nil {
			return err
		}
		b = b[min(len(b), (int(n)+7)&^7):]
	}
	return nil
}

func (h *Header) parseExtension(kind uint32, b []byte) error {
	switch kind {
	case extBackingFormat:
		h.BackingFormat = text(b)
	case extDataFile:
		h.DataFile = text(b)
	case extFeatures:
		for ; len(b) >= featureSize; b = b[featureSize:] {
			h.Features = append(h.Features, Feature{Type: b[0], Bit: b[1], Name: text(b[2:featureSize])})
		}
	case extBitmaps:
		if len(b) != 24 {
			return fmt.Errorf("%w: bitmaps extension of %d bytes", ErrFormat, len(b))
		}
		be := binary.BigEndian
		size, off := be.Uint64(b[8:]), be.Uint64(b[16:])
		if size > maxDirectory || off > 1<<62 {
			return fmt.Errorf("%w: bitmap directory of %d bytes at offset %d", ErrFormat, size, off)
		}
		h.Bitmaps = BitmapDirectory{Count: be.Uint32(b), Size: int64(size), Offset: int64(off)}
	}
	return nil
}

// text ends at the first zero byte.
func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// featureNames describes incompatible feature bits as the image does.
func (h *Header) featureNames(bits uint64) string {
	var names []string
	for bit := range uint8(64) {
		if bits&(1<<bit) == 0 {
			continue
		}
		name := fmt.Sprintf("unnamed feature %d", bit)
		for _, f := range h.Features {
			if f.Type == 0 && f.Bit == bit && f.Name != "" {
				name = fmt.Sprintf("feature %d (%q)", bit, f.Name)
			}
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}
