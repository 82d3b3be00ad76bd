package ext

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

const layer = "ext4"

// The superblock.
const (
	superOffset = 1024
	superSize   = 1024
	superMagic  = 0xef53
)

// Features that change how bytes are read.
const (
	compatHasJournal   = 0x4
	compatDirIndex     = 0x20
	compatSparseSuper2 = 0x200

	incompatCompression = 0x1
	incompatFiletype    = 0x2
	incompatRecover     = 0x4
	incompatJournalDev  = 0x8
	incompatMetaBG      = 0x10
	incompatExtents     = 0x40
	incompat64bit       = 0x80
	incompatMMP         = 0x100
	incompatFlexBG      = 0x200
	incompatEAInode     = 0x400
	incompatDirdata     = 0x1000
	incompatCsumSeed    = 0x2000
	incompatLargeDir    = 0x4000
	incompatInlineData  = 0x8000
	incompatEncrypt     = 0x10000
	incompatCasefold    = 0x20000

	roSparseSuper  = 0x1
	roLargeFile    = 0x2
	roBtreeDir     = 0x4
	roGDTCsum      = 0x10
	roBigalloc     = 0x200
	roMetadataCsum = 0x400

	incompatKnown = incompatFiletype | incompatRecover | incompatMetaBG | incompatExtents | incompat64bit | incompatMMP |
		incompatFlexBG | incompatEAInode | incompatCsumSeed | incompatLargeDir | incompatInlineData | incompatEncrypt |
		incompatCasefold
	incompatOld = incompatFiletype | incompatRecover | incompatMetaBG // of ext2 and ext3
	roOld       = roSparseSuper | roLargeFile | roBtreeDir
)

// super is what the superblock says, checked.
type super struct {
	compat, incompat, ro uint32

	blockSize      int64
	blocks         uint64 // of the file system
	firstBlock     uint64 // of group 0
	perGroup       uint64 // blocks in a group
	groups         uint64
	inodes         uint32
	inodesPerGroup uint32
	inodeSize      int
	firstInode     uint32 // the first one that is not reserved
	descSize       int
	firstMeta      uint64    // the first group of descriptors that are kept in their own groups
	backups        [2]uint32 // groups with a superblock, for sparse_super2
	cluster        int64     // bytes

	uuid     [16]byte
	label    string
	seed     uint32 // of checksums
	state    uint16
	journal  uint32 // inode
	hash     hashing
	encoding uint16 // of names in directories that ignore case
}

// clean and failed are bits of super.state.
const (
	stateClean  = 1
	stateFailed = 2
)

// parseSuper decodes the superblock of an image of size bytes.
func parseSuper(b []byte, size int64) (*super, error) {
	if le.Uint16(b[0x38:]) != superMagic {
		return nil, fsread.ErrOther
	}
	s := &super{
		compat: le.Uint32(b[0x5c:]), incompat: le.Uint32(b[0x60:]), ro: le.Uint32(b[0x64:]),
		blocks:         uint64(le.Uint32(b[4:])),
		firstBlock:     uint64(le.Uint32(b[0x14:])),
		perGroup:       uint64(le.Uint32(b[0x20:])),
		inodes:         le.Uint32(b[0:]),
		inodesPerGroup: le.Uint32(b[0x28:]),
		inodeSize:      128, firstInode: 11, descSize: 32,
		firstMeta: uint64(le.Uint32(b[0x104:])),
		backups:   [2]uint32{le.Uint32(b[0x24c:]), le.Uint32(b[0x250:])},
		uuid:      [16]byte(b[0x68:]),
		state:     le.Uint16(b[0x3a:]),
		journal:   le.Uint32(b[0xe0:]),
		encoding:  le.Uint16(b[0x27c:]),
	}
	if err := s.refuse(b); err != nil {
		return nil, err
	}
	label, _, _ := bytes.Cut(b[0x78:0x88], []byte{0})
	s.label = string(label)
	if le.Uint32(b[0x4c:]) > 0 { // revision 0 has one size of inodes
		s.inodeSize, s.firstInode = int(le.Uint16(b[0x58:])), le.Uint32(b[0x54:])
	}
	if s.incompat&incompat64bit != 0 {
		s.blocks |= uint64(le.Uint32(b[0x150:])) << 32
		s.descSize = int(le.Uint16(b[0xfe:]))
	}
	s.seed = crc32c(^uint32(0), s.uuid[:])
	if s.incompat&incompatCsumSeed != 0 {
		s.seed = le.Uint32(b[0x270:])
	}
	s.hash = hashing{unsigned: le.Uint32(b[0x160:])&2 != 0}
	for i := range s.hash.seed {
		s.hash.seed[i] = le.Uint32(b[0xec+4*i:])
	}
	return s, s.geometry(b, size)
}

// refuse names what is not understood.
func (s *super) refuse(b []byte) error {
	switch {
	case s.incompat&incompatJournalDev != 0:
		return fsread.Unsupported(layer, "a separate journal device")
	case s.incompat&incompatCompression != 0:
		return fsread.Unsupported(layer, "feature compression")
	case s.incompat&incompatDirdata != 0:
		return fsread.Unsupported(layer, "feature dirdata")
	case s.incompat&^incompatKnown != 0:
		return fsread.Unsupported(layer, "an unknown feature (incompat %#x)", s.incompat&^incompatKnown)
	}
	if rev := le.Uint32(b[0x4c:]); rev > 1 {
		return fsread.Unsupported(layer, "revision %d", rev)
	}
	if os := le.Uint32(b[0x48:]); os == 1 || os == 2 {
		return fsread.Unsupported(layer, "a file system of %s", [...]string{1: "GNU Hurd", 2: "Masix"}[os])
	}
	if s.ro&roMetadataCsum == 0 {
		return nil
	}
	if kind := b[0x175]; kind != 1 {
		return fsread.Unsupported(layer, "checksums of kind %d", kind)
	}
	if crc32c(^uint32(0), b[:0x3fc]) != le.Uint32(b[0x3fc:]) {
		return fsread.Corrupt(layer, "the checksum of the superblock is wrong")
	}
	return nil
}

// geometry checks every number by which others are divided or found.
func (s *super) geometry(b []byte, size int64) error {
	logBlock, logCluster := le.Uint32(b[0x18:]), le.Uint32(b[0x1c:])
	if logBlock > 6 {
		return fsread.Corrupt(layer, "superblock: blocks of 2^%d KiB", logBlock)
	}
	s.blockSize = 1024 << logBlock
	s.cluster = s.blockSize
	if s.ro&roBigalloc != 0 {
		if logCluster < logBlock || logCluster > 20 {
			return fsread.Corrupt(layer, "superblock: clusters of 2^%d KiB", logCluster)
		}
		s.cluster = 1024 << logCluster
	}
	bits := uint64(8 * s.blockSize) // in the block of a bitmap
	switch {
	case s.blocks > uint64(size)/uint64(s.blockSize):
		return fsread.Corrupt(layer, "superblock: %d blocks of %d bytes, the image has %d bytes", s.blocks, s.blockSize, size)
	case s.firstBlock > 1 || s.firstBlock >= s.blocks:
		return fsread.Corrupt(layer, "superblock: the first of %d blocks is %d", s.blocks, s.firstBlock)
	case s.perGroup == 0 || s.perGroup > bits*uint64(s.cluster/s.blockSize):
		return fsread.Corrupt(layer, "superblock: %d blocks in a group", s.perGroup)
	case s.inodesPerGroup == 0 || uint64(s.inodesPerGroup) > bits:
		return fsread.Corrupt(layer, "superblock: %d inodes in a group", s.inodesPerGroup)
	case s.inodeSize < 128 || int64(s.inodeSize) > s.blockSize || s.inodeSize&(s.inodeSize-1) != 0:
		return fsread.Corrupt(layer, "superblock: inodes of %d bytes", s.inodeSize)
	case s.descSize < 32 || s.descSize > 1024 || s.descSize&(s.descSize-1) != 0,
		s.incompat&incompat64bit != 0 && s.descSize < 64:
		return fsread.Corrupt(layer, "superblock: group descriptors of %d bytes", s.descSize)
	}
	s.groups = (s.blocks - s.firstBlock + s.perGroup - 1) / s.perGroup
	if want := s.groups * uint64(s.inodesPerGroup); uint64(s.inodes) != want {
		return fsread.Corrupt(layer, "superblock: %d inodes, its groups have %d", s.inodes, want)
	}
	return nil
}

// kind is the name that mount knows the file system by.
func (s *super) kind() string {
	switch {
	case s.incompat&^incompatOld != 0 || s.ro&^roOld != 0:
		return "ext4"
	case s.compat&compatHasJournal != 0:
		return "ext3"
	}
	return "ext2"
}

func (s *super) about() fsread.About {
	u := fmt.Sprintf("%x", s.uuid)
	return fsread.About{
		Type: s.kind(), Label: s.label, Size: int64(s.blocks) * s.blockSize,
		UUID: strings.Join([]string{u[:8], u[8:12], u[12:16], u[16:20], u[20:]}, "-"),
	}
}

func (s *super) checksums() bool { return s.ro&roMetadataCsum != 0 }

// readSuper reads the superblock at the start of img.
func readSuper(img image.Image) (*super, error) {
	if img.Size() < superOffset+superSize {
		return nil, fsread.ErrOther
	}
	b := make([]byte, superSize)
	if err := fsread.ReadFull(img, layer, b, superOffset); err != nil {
		return nil, err
	}
	return parseSuper(b, img.Size())
}
