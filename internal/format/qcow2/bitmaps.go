package qcow2

import (
	"encoding/binary"
	"fmt"
)

// Limits of QEMU.
const (
	maxDirectory      = 65535 * (24 + 1023 + 8) // bytes
	minGranularity    = 9
	maxGranularity    = 31
	bitmapEntry       = 24
	flagBitmapInUse   = 1 << 0
	flagExtraBlocking = 1 << 2
	typeDirty         = 1
)

// Bitmap is one entry of the bitmap directory: a map of blocks that may have
// changed since the bitmap was made.
//
//	offset  size  field
//	0       8     offset of the bitmap's table, on a cluster's boundary
//	8       4     entries of the table
//	12      4     flags: 0 in use, 1 auto, 2 extra data must be understood
//	16      1     type, 1: dirty blocks
//	17      1     granularity bits, 9 to 31
//	18      2     length of the name
//	20      4     length of the extra data, which is before the name
//
// and padding to 8 bytes. A table's entry (8 bytes) holds in bits 9 to 55 the
// offset of a cluster of bits; if that is 0, bit 0 is all of its bits. Bit n,
// counted from the least significant bit of the first byte, stands for the
// block at n times the granularity.
type Bitmap struct {
	Name        string
	Granularity int64 // bytes
	InUse       bool  // not closed properly: what it says is not reliable
	Auto        bool  // recording goes on when the image is opened
	TableOffset int64
	TableLen    int64 // entries
}

// ParseBitmaps reads a bitmap directory for a disk with header h.
func ParseBitmaps(h *Header, b []byte) ([]Bitmap, error) {
	be := binary.BigEndian
	var all []Bitmap
	for len(b) > 0 {
		if len(b) < bitmapEntry {
			return nil, fmt.Errorf("%w: %d bytes behind the bitmap directory", ErrFormat, len(b))
		}
		off, entries, flags := be.Uint64(b), be.Uint32(b[8:]), be.Uint32(b[12:])
		name, extra := int(be.Uint16(b[18:])), int64(be.Uint32(b[20:]))
		n := bitmapEntry + extra + int64(name)
		n = (n + 7) &^ 7
		if n > int64(len(b)) {
			return nil, fmt.Errorf("%w: bitmap %d reaches out of the directory", ErrFormat, len(all))
		}
		bits := b[17]
		if bits < minGranularity || bits > maxGranularity {
			return nil, fmt.Errorf("%w: bitmap %d has a granularity of 2^%d bytes", ErrFormat, len(all), bits)
		}
		m := Bitmap{
			Name:        string(b[bitmapEntry+extra : bitmapEntry+extra+int64(name)]),
			Granularity: 1 << bits,
			InUse:       flags&flagBitmapInUse != 0,
			Auto:        flags&2 != 0,
			TableOffset: int64(off),
			TableLen:    int64(entries),
		}
		if off > 1<<62 || off&uint64(h.Cluster()-1) != 0 {
			return nil, fmt.Errorf("%w: table of bitmap %q at offset %d", ErrFormat, m.Name, off)
		}
		if b[16] == typeDirty && (extra == 0 || flags&flagExtraBlocking == 0) { // others are passed over
			if need := m.tableNeeded(h); m.TableLen != need && !m.InUse {
				return nil, fmt.Errorf("%w: table of bitmap %q has %d entries instead of %d", ErrFormat, m.Name, entries, need)
			}
			all = append(all, m)
		}
		b = b[n:]
	}
	return all, nil
}

// tableNeeded is the number of clusters of bits for the disk.
func (m *Bitmap) tableNeeded(h *Header) int64 {
	per := m.Granularity * 8 * h.Cluster() // at most 2^31 * 2^24
	need := h.Size / per
	if h.Size%per != 0 {
		need++
	}
	return need
}

// Span is the number of bytes of the disk that one table entry stands for.
func (m *Bitmap) Span(h *Header) int64 { return m.Granularity * 8 * h.Cluster() }

// BitmapCluster reads a table's entry: the offset of a cluster of bits, or, if
// that is 0, what all of them are.
func BitmapCluster(h *Header, entry []byte) (off int64, all bool, err error) {
	e := binary.BigEndian.Uint64(entry)
	o := e & offsetMask
	if o&uint64(h.Cluster()-1) != 0 {
		return 0, false, fmt.Errorf("%w: bitmap data at offset %d", ErrFormat, o)
	}
	return int64(o), o == 0 && e&1 != 0, nil
}
