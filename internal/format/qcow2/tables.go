package qcow2

import (
	"encoding/binary"
	"fmt"
)

// L1EntrySize is the length of an L1 entry in bytes.
const L1EntrySize = 8

const (
	offsetMask     = 0x00fffffffffffe00 // bits 9 to 55
	flagZero       = 1 << 0
	flagCompressed = 1 << 62
	flagCopied     = 1 << 63
	sector         = 512
)

// Kind says where the bytes of a piece of the disk are.
type Kind uint8

// The kinds.
const (
	Unallocated Kind = iota // in the backing file, or zeros
	Zero
	Data
	Compressed
)

func (k Kind) String() string {
	return [...]string{"unallocated", "zero", "data", "compressed"}[k&3]
}

// Mapping is where one unit of the disk is.
type Mapping struct {
	Kind   Kind
	Host   int64 // offset in the file: of the unit's Data, of the cluster's Compressed bytes
	Length int64 // at most so many compressed bytes, up to the end of a sector
}

// L2EntrySize is the length of an L2 entry in bytes.
func (h *Header) L2EntrySize() int64 {
	if h.ExtendedL2() {
		return 16
	}
	return 8
}

// L2Entries is the number of entries of an L2 table.
func (h *Header) L2Entries() int64 { return h.Cluster() / h.L2EntrySize() }

// Unit is the number of bytes that are mapped as one: a cluster, or a
// subcluster. A compressed cluster is mapped as a whole in any case.
func (h *Header) Unit() int64 {
	if h.ExtendedL2() {
		return h.Cluster() / Subclusters
	}
	return h.Cluster()
}

// L2Offset reads an L1 entry: where the L2 table is, 0 for none.
func (h *Header) L2Offset(entry []byte) (int64, error) {
	off := binary.BigEndian.Uint64(entry) & offsetMask
	if off&uint64(h.Cluster()-1) != 0 {
		return 0, fmt.Errorf("%w: L2 table at offset %d", ErrFormat, off)
	}
	return int64(off), nil
}

// Map reads an L2 entry of [Header.L2EntrySize] bytes for one of the units of
// its cluster, unit < Cluster/Unit.
func (h *Header) Map(entry []byte, unit int) (Mapping, error) {
	e := binary.BigEndian.Uint64(entry)
	if e&flagCompressed != 0 {
		return h.compressed(e)
	}
	host := e & offsetMask
	if host&uint64(h.Cluster()-1) != 0 {
		return Mapping{}, fmt.Errorf("%w: cluster at offset %d", ErrFormat, host)
	}
	// In a data file of its own a cluster may be at offset 0.
	allocated := host != 0 || h.HasDataFile() && e&flagCopied != 0
	if h.ExtendedL2() {
		return h.subcluster(int64(host), allocated, binary.BigEndian.Uint64(entry[8:]), unit)
	}
	switch {
	case e&flagZero != 0 && h.Version < 3:
		return Mapping{}, fmt.Errorf("%w: zero cluster in an image of version %d", ErrFormat, h.Version)
	case e&flagZero != 0:
		return Mapping{Kind: Zero}, nil
	case allocated:
		return Mapping{Kind: Data, Host: int64(host)}, nil
	}
	return Mapping{}, nil
}

func (h *Header) subcluster(host int64, allocated bool, bitmap uint64, unit int) (Mapping, error) {
	isData, isZero := bitmap>>unit&1 != 0, bitmap>>(Subclusters+unit)&1 != 0
	switch {
	case isData && (isZero || !allocated):
		return Mapping{}, fmt.Errorf("%w: subclusters %016x of a cluster at offset %d", ErrFormat, bitmap, host)
	case isData:
		return Mapping{Kind: Data, Host: host + int64(unit)*h.Unit()}, nil
	case isZero:
		return Mapping{Kind: Zero}, nil
	}
	return Mapping{}, nil
}

func (h *Header) compressed(e uint64) (Mapping, error) {
	if h.HasDataFile() {
		return Mapping{}, fmt.Errorf("%w: compressed cluster in an image with a data file", ErrFormat)
	}
	x := 62 - (h.ClusterBits - 8)
	off := e & (1<<x - 1)
	sectors := e & (flagCompressed - 1) >> x
	if off > offsetMask|(sector-1) {
		return Mapping{}, fmt.Errorf("%w: compressed cluster at offset %d", ErrFormat, off)
	}
	end := off&^(sector-1) + (sectors+1)*sector
	return Mapping{Kind: Compressed, Host: int64(off), Length: int64(end - off)}, nil
}
