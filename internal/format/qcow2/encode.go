package qcow2

import (
	"encoding/binary"
	"fmt"
)

// Limits and units of what is written.
const (
	// RefcountOrder is that of images written here: counts of 16 bits.
	RefcountOrder = 4
	// ZeroEntry is the L2 entry of a cluster that reads as zeros and has no
	// place in the file.
	ZeroEntry = flagZero

	headerSize = 112
)

// L1Length is the number of entries that the L1 table of the image must have.
func (h *Header) L1Length() int64 { return h.l1Needed() }

// Append encodes the header of an image of version 3 without optional features
// but the method of compression, with the name and the format of its backing file. It fits into the first
// cluster, or is refused with ErrUnsupported, as is anything that the image has
// beyond that.
func (h *Header) Append(b []byte) ([]byte, error) {
	switch {
	case h.Version != 3 || h.Incompatible&^IncompatCompression != 0 || h.Crypt != CryptNone || h.Snapshots != 0 || h.Bitmaps.Count != 0:
		return nil, fmt.Errorf("%w: only plain images of version 3 are written", ErrUnsupported)
	case len(h.BackingFile) > maxBackingName:
		return nil, fmt.Errorf("%w: the backing file's name has %d bytes, at most %d fit", ErrUnsupported, len(h.BackingFile), maxBackingName)
	}
	if err := h.check(); err != nil { // the method and its feature bit
		return nil, err
	}
	start := len(b)
	be := binary.BigEndian
	b = append(b, make([]byte, headerSize)...)
	p := b[start:]
	be.PutUint32(p, magic)
	be.PutUint32(p[offVersion:], h.Version)
	be.PutUint32(p[offClusterBits:], h.ClusterBits)
	be.PutUint64(p[offSize:], uint64(h.Size))
	be.PutUint32(p[offL1Entries:], uint32(h.L1Entries))
	be.PutUint64(p[offL1:], uint64(h.L1Offset))
	be.PutUint64(p[offRefcounts:], uint64(h.Refcounts.Offset))
	be.PutUint32(p[offRefcountLen:], uint32(h.Refcounts.Clusters))
	be.PutUint64(p[offIncompatible:], h.Incompatible)
	be.PutUint64(p[offCompatible:], h.Compatible)
	be.PutUint64(p[offAutoclear:], h.Autoclear)
	be.PutUint32(p[offRefcount:], h.Refcounts.Order)
	be.PutUint32(p[offHeaderLen:], headerSize)
	p[offCompression] = byte(h.Compression)
	if h.BackingFormat != "" {
		b = appendExtension(b, extBackingFormat, []byte(h.BackingFormat))
	}
	b = appendExtension(b, extEnd, nil)
	if h.BackingFile != "" {
		be.PutUint64(b[start+offBackingOff:], uint64(len(b)-start))
		be.PutUint32(b[start+offBackingLen:], uint32(len(h.BackingFile)))
		b = append(b, h.BackingFile...)
	}
	if int64(len(b)-start) > h.Cluster() {
		return nil, fmt.Errorf("%w: a header of %d bytes in clusters of %d", ErrUnsupported, len(b)-start, h.Cluster())
	}
	return b, nil
}

func appendExtension(b []byte, kind uint32, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	b = append(b, data...)
	return append(b, make([]byte, -len(data)&7)...)
}

// TableEntry is the L1 entry of the L2 table at an offset of the file, the L2
// entry of the cluster there, or the refcount table's of a block. Only L1 and L2
// entries say that nothing else refers to it.
func TableEntry(host int64) uint64 { return uint64(host) | flagCopied }

// CompressedEntry is the L2 entry of a cluster that has n compressed bytes at an
// offset.
func (h *Header) CompressedEntry(host, n int64) uint64 {
	x := 62 - (h.ClusterBits - 8)
	more := (host+n-1)/sector - host/sector // sectors behind the first
	return flagCompressed | uint64(more)<<x | uint64(host)
}

// RefcountEntry is the refcount table's entry of the block at an offset.
func RefcountEntry(host int64) uint64 { return uint64(host) }

// Entry is an L1 or L2 entry as one who changes an image needs it; it holds no
// compressed cluster, of which Host means nothing.
type Entry struct {
	Host       int64 // 0: no place in the file
	Sole       bool  // nothing else refers to the place
	Zero       bool
	Compressed bool
}

// ParseEntry reads an L1 entry, or an L2 entry without subclusters.
func ParseEntry(e uint64) Entry {
	return Entry{
		Host: int64(e & offsetMask), Sole: e&flagCopied != 0,
		Zero: e&flagZero != 0, Compressed: e&flagCompressed != 0,
	}
}
