package lvm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const (
	layer      = "lvm"
	sectorSize = 512
	labelSize  = 32
	uuidSize   = 32
	areaMagic  = "\x20LVM2\x20x[5A%r0N*>"
	maxText    = 16 << 20
	maxAreas   = 8 // of metadata; LVM makes two
	ignored    = 1 // a flag of a text
)

var le = binary.LittleEndian

// Volume is an image that is a physical volume.
type Volume struct {
	UUID string // as LVM prints it
	img  image.Image
	text *section // of its group, the newest that it has; nil: none
	// Problem says why a text that should be there was not read.
	Problem error
}

// checksum is LVM's.
func checksum(b []byte) uint32 { return ^crc32.Update(^uint32(0xf597a6cf), crc32.IEEETable, b) }

// Read reads the label of a physical volume and the text of its group. It is
// [fsread.ErrOther] if img is none.
func Read(img image.Image) (*Volume, error) {
	n := min(4*sectorSize, img.Size()&^(sectorSize-1))
	b := make([]byte, n)
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return nil, err
	}
	for sector := uint64(0); len(b) > 0; sector, b = sector+1, b[sectorSize:] {
		if string(b[:8]) != "LABELONE" || string(b[24:labelSize]) != "LVM2 001" || le.Uint64(b[8:]) != sector {
			continue
		}
		if checksum(b[20:sectorSize]) != le.Uint32(b[16:]) {
			return nil, fsread.Corrupt(layer, "the checksum of the label in sector %d is wrong", sector)
		}
		at := le.Uint32(b[20:])
		if at < labelSize || at > sectorSize-uuidSize-8 {
			return nil, fsread.Corrupt(layer, "the head of the physical volume is at byte %d of its label", at)
		}
		return readHead(img, b[at:sectorSize])
	}
	return nil, fsread.ErrOther
}

// area is a place in an image.
type area struct{ off, size uint64 }

// areas reads a list that zeros end.
func areas(b []byte) (list []area, rest []byte) {
	for len(b) >= 16 {
		a := area{le.Uint64(b), le.Uint64(b[8:])}
		b = b[16:]
		if a.off == 0 {
			break
		}
		list = append(list, a)
	}
	return list, b
}

func readHead(img image.Image, b []byte) (*Volume, error) {
	v := &Volume{UUID: dashed(string(b[:uuidSize])), img: img}
	_, rest := areas(b[uuidSize+8:])
	metadata, _ := areas(rest)
	var newest int64 = -1
	for _, a := range metadata[:min(len(metadata), maxAreas)] {
		text, err := readArea(img, a)
		var seq int64
		if err == nil && text != nil {
			seq, err = text.number("seqno")
		}
		switch {
		case err != nil && !fsread.IsCorrupt(err):
			return nil, err
		case err != nil:
			v.Problem = err
		case text != nil && seq > newest:
			v.text, newest = text, seq
		}
	}
	return v, nil
}

// readArea reads the section of the group from an area; nil if it has none.
func readArea(img image.Image, a area) (*section, error) {
	var b [sectorSize]byte
	if a.off > uint64(img.Size()) || a.size > uint64(img.Size())-a.off || a.size < sectorSize {
		return nil, fsread.Corrupt(layer, "an area of metadata of %d bytes at %d, the image has %d", a.size, a.off, img.Size())
	}
	if err := fsread.ReadFull(img, layer, b[:], int64(a.off)); err != nil {
		return nil, err
	}
	switch {
	case string(b[4:20]) != areaMagic:
		return nil, fsread.Corrupt(layer, "no metadata at %d", a.off)
	case checksum(b[4:]) != le.Uint32(b[:]):
		return nil, fsread.Corrupt(layer, "the checksum of the metadata at %d is wrong", a.off)
	case le.Uint32(b[20:]) != 1 || le.Uint64(b[24:]) != a.off || le.Uint64(b[32:]) > a.size:
		return nil, fsread.Corrupt(layer, "the metadata at %d speaks of another area", a.off)
	}
	a.size = le.Uint64(b[32:])
	off, size, sum, flags := le.Uint64(b[40:]), le.Uint64(b[48:]), le.Uint32(b[56:]), le.Uint32(b[60:])
	if off == 0 || size == 0 || flags&ignored != 0 {
		return nil, nil
	}
	if size > maxText {
		return nil, fsread.Unsupported(layer, "a group whose text has %d bytes", size)
	}
	if off < sectorSize || off >= a.size || size > a.size-sectorSize {
		return nil, fsread.Corrupt(layer, "a text of %d bytes at %d of %d", size, off, a.size)
	}
	text := make([]byte, size)
	first := min(size, a.size-off)
	if err := fsread.ReadFull(img, layer, text[:first], int64(a.off+off)); err != nil {
		return nil, err
	}
	if err := fsread.ReadFull(img, layer, text[first:], int64(a.off)+sectorSize); err != nil {
		return nil, err
	}
	if checksum(text) != sum {
		return nil, fsread.Corrupt(layer, "the checksum of the text at %d is wrong", a.off+off)
	}
	return parseGroup(text)
}

// dashed writes a UUID as LVM does: 6-4-4-4-4-4-6.
func dashed(s string) string {
	if len(s) != uuidSize {
		return s
	}
	return fmt.Sprintf("%s-%s-%s-%s-%s-%s-%s", s[:6], s[6:10], s[10:14], s[14:18], s[18:22], s[22:26], s[26:])
}
