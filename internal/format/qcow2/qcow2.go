// Package qcow2 reads the metadata of qcow2 disk images, versions 2 and 3: the
// header with its extensions, and the entries of the two mapping tables.
// Reference counts are not needed for reading and not looked at. Snapshots
// inside the image are not read either: the active state is. What a new image
// needs is written as well.
//
// # Header
//
// The header, its extensions and the name of the backing file lie in the first
// cluster. Integers are big-endian.
//
//	offset  size  field
//	0       4     magic 51 46 49 fb ("QFI", fb)
//	4       4     version, 2 or 3
//	8       8     offset of the backing file's name, 0: none
//	16      4     length of the name, at most 1023
//	20      4     cluster bits, 9 to 21: the size of a cluster is 1<<bits
//	24      8     size of the disk in bytes
//	32      4     encryption: 0 none, 1 AES, 2 LUKS
//	36      4     entries of the L1 table, at most 32 MiB of them
//	40      8     offset of the L1 table, on a cluster's boundary
//	48      8     offset of the reference count table
//	56      4     clusters of the reference count table
//	60      4     snapshots
//	64      8     offset of the snapshot table
//	72      8     incompatible features (version 3, like the rest)
//	80      8     compatible features
//	88      8     autoclear features
//	96      4     reference count order
//	100     4     length of the header, at least 104
//	104     1     compression: 0 zlib (raw deflate), 1 zstd
//
// Extensions follow the header up to the backing file's name or the end of the
// cluster: type (4), length (4), data, padding to 8 bytes; type 0 ends them.
//
// # Mapping
//
// An L1 entry (8 bytes) holds in bits 9 to 55 the offset of an L2 table, which
// is one cluster long; 0 means that nothing below is allocated. An L2 entry (8
// bytes) describes one cluster:
//
//	bit 62      compressed; else
//	bits 9-55   offset of the cluster, 0: not allocated
//	bit 0       reads as zeros (version 3), whether allocated or not
//
// A compressed cluster's entry holds, with x = 62 - (cluster bits - 8), the
// byte offset in bits 0 to x-1, and in bits x to 61 the number of 512-byte
// sectors behind the one in which it begins.
//
// With extended L2 entries (16 bytes) a second integer describes 32
// subclusters: bit n, subcluster n is allocated; bit 32+n, it reads as zeros.
// Bit 0 of the first integer then means nothing.
//
// # Errors
//
// Bytes that are no such metadata are [ErrFormat]; metadata that is sound and
// not understood here is [ErrUnsupported]. There are no other errors.
//
// # Source
//
// QEMU: docs/interop/qcow2.txt (the specification), block/qcow2.h.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat is wrapped when bytes are not qcow2 metadata.
var ErrFormat = errors.New("not a sound qcow2 image")

// ErrUnsupported is wrapped when an image uses what this package cannot read.
var ErrUnsupported = errors.New("qcow2 image not supported")

// Limits of the format, or of QEMU where the format has none.
const (
	MinHead        = 104      // bytes that tell how long the first cluster is
	MaxCluster     = 2 << 20  // bytes
	MaxL1          = 32 << 20 // bytes of the L1 table
	maxBackingName = 1023
	magic          = 0x514649fb
	minV2          = 72
	minClusterBits = 9
	maxClusterBits = 21
	Subclusters    = 32 // in a cluster with extended L2 entries
)

// Offsets of header fields.
const (
	offVersion      = 4
	offBackingOff   = 8
	offBackingLen   = 16
	offClusterBits  = 20
	offSize         = 24
	offCrypt        = 32
	offL1Entries    = 36
	offL1           = 40
	offRefcounts    = 48
	offRefcountLen  = 56
	offSnapshots    = 60
	offIncompatible = 72
	offCompatible   = 80
	offAutoclear    = 88
	offRefcount     = 96
	offHeaderLen    = 100
	offCompression  = 104
)

// Feature bits.
const (
	IncompatDirty       = 1 << 0 // reference counts may be wrong: no matter for reading
	IncompatCorrupt     = 1 << 1
	IncompatDataFile    = 1 << 2
	IncompatCompression = 1 << 3
	IncompatExtendedL2  = 1 << 4
	knownIncompatible   = 1<<5 - 1

	AutoclearBitmaps = 1 << 0
)

// Crypt is the encryption of an image.
type Crypt uint32

// The encryptions.
const (
	CryptNone Crypt = iota
	CryptAES
	CryptLUKS
)

// Compression is the method of compressed clusters.
type Compression uint8

// The methods.
const (
	Zlib Compression = iota
	Zstd
)

// Header is what the first cluster tells.
type Header struct {
	Version     uint32
	ClusterBits uint32
	Size        int64 // of the disk, bytes
	Crypt       Crypt
	L1Entries   int64
	L1Offset    int64
	Compression Compression

	Incompatible, Compatible, Autoclear uint64

	Refcounts RefcountTable // as the image says: not checked
	Snapshots uint32        // inside the image

	BackingFile   string // empty: none
	BackingFormat string // empty: not recorded
	DataFile      string // empty: not recorded
	Bitmaps       BitmapDirectory
	Features      []Feature // names of feature bits
}

// RefcountTable is where the reference counts are: the table lists blocks of
// one cluster each, which hold counts of 1<<Order bits for one cluster after
// the other.
type RefcountTable struct {
	Offset   int64
	Clusters int64
	Order    uint32
}

// Feature names a feature bit.
type Feature struct {
	Type, Bit uint8 // type 0 incompatible, 1 compatible, 2 autoclear
	Name      string
}

// IsQcow2 reports the magic, of any version.
func IsQcow2(b []byte) bool { return len(b) >= 4 && binary.BigEndian.Uint32(b) == magic }

// ClusterSize tells from the first bytes of an image how long its first
// cluster is, so that it can be read for [Parse].
func ClusterSize(b []byte) (int, error) {
	if len(b) < minV2 {
		return 0, fmt.Errorf("%w: %d bytes, the header alone has %d", ErrFormat, len(b), minV2)
	}
	be := binary.BigEndian
	if !IsQcow2(b) {
		return 0, fmt.Errorf("%w: magic %x", ErrFormat, b[:4])
	}
	if v := be.Uint32(b[offVersion:]); v != 2 && v != 3 {
		return 0, fmt.Errorf("%w: version %d, versions 2 and 3 are read", ErrUnsupported, v)
	}
	bits := be.Uint32(b[offClusterBits:])
	if bits < minClusterBits || bits > maxClusterBits {
		return 0, fmt.Errorf("%w: clusters of 2^%d bytes", ErrFormat, bits)
	}
	return 1 << bits, nil
}

// Parse reads the header from the first cluster of an image, of which less is
// given where the file is shorter. It takes no more memory than it is given.
func Parse(b []byte) (Header, error) {
	cluster, err := ClusterSize(b)
	if err != nil {
		return Header{}, err
	}
	b = b[:min(len(b), cluster)]
	be := binary.BigEndian
	h := Header{
		Version:     be.Uint32(b[offVersion:]),
		ClusterBits: be.Uint32(b[offClusterBits:]),
		Crypt:       Crypt(be.Uint32(b[offCrypt:])),
		L1Entries:   int64(be.Uint32(b[offL1Entries:])),
	}
	size := be.Uint64(b[offSize:])
	if size > 1<<62 {
		return Header{}, fmt.Errorf("%w: disk of %d bytes", ErrFormat, size)
	}
	h.Size = int64(size)
	h.Refcounts = RefcountTable{
		Offset: int64(be.Uint64(b[offRefcounts:])), Clusters: int64(be.Uint32(b[offRefcountLen:])), Order: RefcountOrder,
	}
	h.Snapshots = be.Uint32(b[offSnapshots:])
	length := minV2
	if h.Version == 3 {
		if length, err = h.parseV3(b); err != nil {
			return Header{}, err
		}
	}
	if h.Crypt > CryptLUKS {
		return Header{}, fmt.Errorf("%w: encryption method %d", ErrUnsupported, h.Crypt)
	}
	if err := h.parseL1(be.Uint64(b[offL1:])); err != nil {
		return Header{}, err
	}
	end, err := h.parseBackingName(b)
	if err != nil {
		return Header{}, err
	}
	if end < length {
		return Header{}, fmt.Errorf("%w: the backing file's name lies inside the header", ErrFormat)
	}
	if err := h.parseExtensions(b[length:end]); err != nil {
		return Header{}, err
	}
	return h, h.check()
}

// parseV3 returns the length of the header.
func (h *Header) parseV3(b []byte) (int, error) {
	be := binary.BigEndian
	if len(b) < MinHead {
		return 0, fmt.Errorf("%w: %d bytes, a header of version 3 has %d", ErrFormat, len(b), MinHead)
	}
	h.Incompatible = be.Uint64(b[offIncompatible:])
	h.Compatible = be.Uint64(b[offCompatible:])
	h.Autoclear = be.Uint64(b[offAutoclear:])
	if order := be.Uint32(b[offRefcount:]); order > 6 {
		return 0, fmt.Errorf("%w: reference counts of 2^%d bits", ErrFormat, order)
	}
	h.Refcounts.Order = be.Uint32(b[offRefcount:])
	n := be.Uint32(b[offHeaderLen:])
	if n < MinHead || int64(n) > int64(len(b)) {
		return 0, fmt.Errorf("%w: header of %d bytes", ErrFormat, n)
	}
	if n > offCompression {
		h.Compression = Compression(b[offCompression])
	}
	return int(n), nil
}

// parseL1 checks that the table covers the disk and is of a bearable length.
func (h *Header) parseL1(off uint64) error {
	if h.L1Entries > MaxL1/8 {
		return fmt.Errorf("%w: L1 table of %d entries", ErrFormat, h.L1Entries)
	}
	if need := h.l1Needed(); h.L1Entries < need {
		return fmt.Errorf("%w: L1 table of %d entries, a disk of %d bytes needs %d", ErrFormat, h.L1Entries, h.Size, need)
	}
	if off > 1<<62 || off&uint64(h.Cluster()-1) != 0 || off == 0 && h.L1Entries > 0 {
		return fmt.Errorf("%w: L1 table at offset %d", ErrFormat, off)
	}
	h.L1Offset = int64(off)
	return nil
}

func (h *Header) l1Needed() int64 {
	per := h.Cluster() * h.L2Entries() // at most 2^21 * 2^18
	need := h.Size / per
	if h.Size%per != 0 {
		need++
	}
	return need
}

// parseBackingName returns where extensions end at the latest.
func (h *Header) parseBackingName(b []byte) (int, error) {
	be := binary.BigEndian
	off, n := be.Uint64(b[offBackingOff:]), be.Uint32(b[offBackingLen:])
	if off == 0 {
		return len(b), nil
	}
	if n > maxBackingName || off > uint64(len(b)) || uint64(n) > uint64(len(b))-off {
		return 0, fmt.Errorf("%w: name of the backing file of %d bytes at offset %d", ErrFormat, n, off)
	}
	h.BackingFile = string(b[off : off+uint64(n)])
	return int(off), nil
}

// check compares fields with each other.
func (h *Header) check() error {
	if unknown := h.Incompatible &^ knownIncompatible; unknown != 0 {
		return fmt.Errorf("%w: it needs %s", ErrUnsupported, h.featureNames(unknown))
	}
	if h.Compression > Zstd {
		return fmt.Errorf("%w: compression method %d", ErrUnsupported, h.Compression)
	}
	if set := h.Incompatible&IncompatCompression != 0; set != (h.Compression != Zlib) {
		return fmt.Errorf("%w: compression method %d does not fit the feature bits", ErrFormat, h.Compression)
	}
	if h.ExtendedL2() && h.ClusterBits < 14 {
		return fmt.Errorf("%w: subclusters in clusters of %d bytes", ErrFormat, h.Cluster())
	}
	return nil
}

// Cluster is the size of a cluster in bytes.
func (h *Header) Cluster() int64 { return 1 << h.ClusterBits }

// ExtendedL2 reports L2 entries with subclusters.
func (h *Header) ExtendedL2() bool { return h.Incompatible&IncompatExtendedL2 != 0 }

// HasDataFile reports that clusters lie in another file.
func (h *Header) HasDataFile() bool { return h.Incompatible&IncompatDataFile != 0 }
