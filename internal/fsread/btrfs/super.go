package btrfs

import (
	"bytes"
	"crypto/sha256"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"golang.org/x/crypto/blake2b"
)

// Features that change the meaning of what is read. The others that are known do
// not: mixed groups, big nodes, missing holes, another UUID, and the like.
const (
	featureZoned      = 0x1000
	featureExtentTree = 0x2000
	featureStripeTree = 0x4000
	featuresKnown     = 0x0fff | 0x10000
)

// FS is a btrfs.
type FS struct {
	about   fsread.About
	sector  int64
	node    int64
	sum     func([]byte) []byte
	devices []*device
	uneven  bool    // their generations differ by one
	chunks  []chunk // in order
	root    root    // of the tree of roots
	newer   changes // by the log

	mu    sync.Mutex
	nodes map[uint64]*node
	roots map[uint64]root
}

var _ fsread.FS = (*FS)(nil)

// sums are the kinds of checksums.
func sums(kind uint16) func([]byte) []byte {
	switch kind {
	case 0:
		return func(b []byte) []byte {
			return le.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		}
	case 1:
		return func(b []byte) []byte { return le.AppendUint64(nil, xxhash.Sum64(b)) }
	case 2:
		return func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	case 3:
		return func(b []byte) []byte { s := blake2b.Sum256(b); return s[:] }
	}
	return nil
}

// sound checks the checksum that b begins with.
func sound(sum func([]byte) []byte, b []byte) bool {
	s := sum(b[32:])
	return bytes.Equal(s, b[:len(s)])
}

// super takes a superblock, which is sound.
func (f *FS) super(b []byte) error {
	f.sum = sums(le.Uint16(b[196:]))
	features := le.Uint64(b[188:])
	for _, k := range []struct {
		bit  uint64
		name string
	}{{featureZoned, "a zoned device"}, {featureExtentTree, "extent tree v2"}, {featureStripeTree, "a tree of stripes"}} {
		if features&k.bit != 0 {
			return fsread.Unsupported(layer, "%s", k.name)
		}
	}
	if unknown := features &^ featuresKnown; unknown != 0 {
		return fsread.Unsupported(layer, "feature %#x", unknown)
	}
	f.sector, f.node = int64(le.Uint32(b[144:])), int64(le.Uint32(b[148:]))
	power := func(n, least int64) bool { return n >= least && n <= maxNode && n&(n-1) == 0 }
	if !power(f.sector, 512) || !power(f.node, 4096) {
		return fsread.Corrupt(layer, "sectors of %d and nodes of %d bytes", f.sector, f.node)
	}
	f.root = root{tree: 1, at: le.Uint64(b[80:]), level: int(b[198])}
	size := le.Uint64(b[112:])
	if size > 1<<62 {
		return fsread.Corrupt(layer, "the superblock says %d bytes", size)
	}
	have := int64(0)
	for _, d := range f.devices {
		have += d.img.Size()
	}
	f.about = fsread.About{
		Type: "btrfs", Size: min(int64(size), have), Label: strings.TrimRight(string(b[299:299+256]), "\x00"), UUID: uuid(b[32:48]),
	}
	return nil
}

// About describes the file system.
func (f *FS) About() fsread.About {
	a := f.about
	a.Notices = append([]string(nil), a.Notices...)
	return a
}

// Root is the root directory of the top level.
func (f *FS) Root() fsread.ID { return fsread.ID{Tree: treeFiles, Number: firstObject} }
