package btrfs

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
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
	img    image.Image
	about  fsread.About
	sector int64
	node   int64
	sum    func([]byte) []byte
	device uint64
	chunks []chunk // in order
	root   root    // of the tree of roots

	mu    sync.Mutex
	nodes map[uint64]*node
	roots map[uint64]root
}

var _ fsread.FS = (*FS)(nil)

// Open opens img if it holds a btrfs, and gives fsread.ErrOther else.
func Open(img image.Image) (*FS, error) {
	if img.Size() < superAt+superSize {
		return nil, fsread.ErrOther
	}
	b := make([]byte, superSize)
	if err := fsread.ReadFull(img, layer, b, superAt); err != nil {
		return nil, err
	}
	if string(b[64:72]) != "_BHRfS_M" {
		return nil, fsread.ErrOther
	}
	f := &FS{img: img, nodes: map[uint64]*node{}, roots: map[uint64]root{}}
	if err := f.super(b); err != nil {
		return nil, err
	}
	if err := f.readChunks(b); err != nil {
		return nil, err
	}
	return f, nil
}

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
func (f *FS) sound(b []byte) bool {
	s := f.sum(b[32:])
	return bytes.Equal(s, b[:len(s)])
}

func (f *FS) super(b []byte) error {
	if f.sum = sums(le.Uint16(b[196:])); f.sum == nil {
		return fsread.Unsupported(layer, "checksums of kind %d", le.Uint16(b[196:]))
	}
	if !f.sound(b) {
		return fsread.Corrupt(layer, "the checksum of the superblock is wrong")
	}
	if at := le.Uint64(b[48:]); at != superAt {
		return fsread.Corrupt(layer, "the superblock says that it lies at %d", at)
	}
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
	f.device = le.Uint64(b[201:])
	f.root = root{tree: 1, at: le.Uint64(b[80:]), level: int(b[198])}
	size := le.Uint64(b[112:])
	if size > 1<<62 {
		return fsread.Corrupt(layer, "the superblock says %d bytes", size)
	}
	u := b[32:48]
	f.about = fsread.About{
		Type: "btrfs", Size: min(int64(size), f.img.Size()), Label: strings.TrimRight(string(b[299:299+256]), "\x00"),
		UUID: fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]),
	}
	if le.Uint64(b[96:]) != 0 {
		f.about.Notices = append(f.about.Notices, "has a log, from calls of fsync shortly before the backup; it is not applied")
	}
	if n := le.Uint64(b[136:]); n > 1 {
		f.about.Notices = append(f.about.Notices, fmt.Sprintf("is one of %d devices", n))
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
