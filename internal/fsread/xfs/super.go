package xfs

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// Features.
const (
	versionDirV2     = 0x2000
	versionMoreBits  = 0x8000
	features2FileTyp = 0x200

	incompatFileType    = 0x001
	incompatNeedsRepair = 0x010
	incompatNrext64     = 0x020
	incompatKnown       = 0x001 | 0x002 | 0x004 | 0x008 | 0x020 | 0x040 | 0x080
)

// FS is an XFS.
type FS struct {
	img   image.Image
	about fsread.About

	v5       bool
	fileType bool // directories know what their entries are
	nrext64  bool
	newer    overlay

	block     int64
	blockLog  uint
	blocks    uint64
	groupLog  uint // of blocks a group
	group     uint64
	groups    uint64
	inode     int64
	perLog    uint // inodes a block
	dirBlock  int64
	root      uint64
	logStart  uint64
	logBlocks uint64
	sector    int64

	mu    sync.Mutex
	cache map[uint64]*inode // that were read last
}

var _ fsread.FS = (*FS)(nil)

// seal writes the checksum of an inode of version 5.
func seal(raw []byte) {
	sum := crc32.Update(0, castagnoli, raw[:100])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	le.PutUint32(raw[100:], crc32.Update(sum, castagnoli, raw[104:]))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open opens img if it holds an XFS, and gives fsread.ErrOther else.
func Open(img image.Image) (*FS, error) {
	f, err := open(img)
	if err != nil {
		return nil, err
	}
	if err := f.recover(); err != nil {
		return nil, err
	}
	return f, nil
}

// open is Open without what is in the log.
func open(img image.Image) (*FS, error) {
	if img.Size() < 512 {
		return nil, fsread.ErrOther
	}
	b := make([]byte, 512)
	if err := fsread.ReadFull(img, layer, b, 0); err != nil {
		return nil, err
	}
	if string(b[:4]) != "XFSB" {
		return nil, fsread.ErrOther
	}
	f := &FS{img: img, cache: map[uint64]*inode{}}
	return f, f.super(b)
}

// super reads the superblock.
func (f *FS) super(b []byte) error {
	version := be.Uint16(b[100:])
	f.v5 = version&15 == 5
	switch {
	case version&15 != 4 && !f.v5:
		return fsread.Unsupported(layer, "version %d", version&15)
	case version&versionDirV2 == 0:
		return fsread.Unsupported(layer, "directories of version 1")
	}
	f.sector = int64(be.Uint16(b[102:]))
	if f.sector < 512 || f.sector > 32<<10 || f.sector&(f.sector-1) != 0 {
		return fsread.Corrupt(layer, "the superblock says %d bytes a sector", f.sector)
	}
	features2 := be.Uint32(b[200:])
	f.fileType = version&versionMoreBits != 0 && features2&features2FileTyp != 0
	if f.v5 {
		if err := f.super5(b); err != nil {
			return err
		}
	}
	f.blockLog, f.perLog, f.groupLog = uint(b[120]), uint(b[123]), uint(b[124])
	f.block, f.inode = int64(be.Uint32(b[4:])), int64(be.Uint16(b[104:]))
	f.blocks, f.group, f.groups = be.Uint64(b[8:]), uint64(be.Uint32(b[84:])), uint64(be.Uint32(b[88:]))
	f.root, f.logStart, f.logBlocks = be.Uint64(b[56:]), be.Uint64(b[48:]), uint64(be.Uint32(b[96:]))
	dirLog := uint(b[192])
	sane := f.blockLog >= 9 && f.blockLog <= 16 && f.block == 1<<f.blockLog &&
		b[122] >= 8 && b[122] <= 11 && f.inode == 1<<b[122] && f.perLog == f.blockLog-uint(b[122]) && f.perLog < 10 &&
		f.groupLog < 32 && f.group > 0 && f.group <= 1<<f.groupLog && f.groups > 0 && dirLog+f.blockLog <= 16
	if !sane {
		return fsread.Corrupt(layer, "the superblock has blocks of %d, inodes of %d bytes and %d groups of %d blocks", f.block, f.inode, f.groups, f.group)
	}
	if f.blocks > uint64(f.img.Size()>>f.blockLog) || f.blocks > f.group*f.groups || f.blocks <= f.group*(f.groups-1) {
		return fsread.Corrupt(layer, "the superblock says %d blocks in %d groups of %d, the image has room for %d", f.blocks, f.groups, f.group, f.img.Size()>>f.blockLog)
	}
	f.dirBlock = f.block << dirLog
	u := b[32:48]
	f.about = fsread.About{
		Type: "xfs", Size: int64(f.blocks) << f.blockLog, Label: strings.TrimRight(string(b[108:120]), "\x00"),
		UUID: fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]),
	}
	return nil
}

// super5 reads what version 5 adds.
func (f *FS) super5(b []byte) error {
	whole := make([]byte, f.sector)
	if err := fsread.ReadFull(f.img, layer, whole, 0); err != nil {
		return err
	}
	if !checksum(whole, 224) {
		return fsread.Corrupt(layer, "the checksum of the superblock is wrong")
	}
	incompat := be.Uint32(b[216:])
	switch unknown := incompat &^ incompatKnown; {
	case incompat&incompatNeedsRepair != 0:
		return fsread.Unsupported(layer, "a file system that is marked as in need of repair")
	case unknown != 0:
		return fsread.Unsupported(layer, "feature %#x", unknown)
	}
	f.fileType = incompat&incompatFileType != 0
	f.nrext64 = incompat&incompatNrext64 != 0
	return nil
}

// checksum checks the checksum of b, which is at off in it.
func checksum(b []byte, off int) bool {
	sum := crc32.Update(0, castagnoli, b[:off])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(sum, castagnoli, b[off+4:]) == le.Uint32(b[off:])
}

// at is the place of a block of the file system.
func (f *FS) at(block uint64) (int64, error) {
	group, in := block>>f.groupLog, block&(1<<f.groupLog-1)
	if group >= f.groups || in >= f.group || group*f.group+in >= f.blocks {
		return 0, fsread.Corrupt(layer, "block %d of group %d, there are %d groups of %d", in, group, f.groups, f.group)
	}
	return int64(group*f.group+in) << f.blockLog, nil
}

// read fills p from a place, as it is with the log applied.
func (f *FS) read(p []byte, off int64) error {
	_, err := f.readNewer(p, off)
	return err
}

// readNewer is read, and reports whether some of it is from the log: then
// checksums, which are made when a block is written to its place, do not count.
func (f *FS) readNewer(p []byte, off int64) (newer bool, err error) {
	if err := fsread.ReadFull(f.img, layer, p, off); err != nil {
		return false, err
	}
	return f.newer.patch(p, off), nil
}

// About describes the file system.
func (f *FS) About() fsread.About {
	a := f.about
	a.Notices = slices.Clone(a.Notices)
	return a
}

// Root is the root directory.
func (f *FS) Root() fsread.ID { return fsread.ID{Number: f.root} }

// owner compares what a block says it belongs to.
func (f *FS) owner(b []byte, at int, n *inode) bool {
	return !f.v5 || be.Uint64(b[at:]) == n.number
}
