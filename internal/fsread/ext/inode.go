package ext

import (
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// rootInode is the root directory.
const rootInode = 2

// Flags of inodes.
const (
	flagEncrypt  = 0x800
	flagIndex    = 0x1000
	flagExtents  = 0x80000
	flagVerity   = 0x100000
	flagEAInode  = 0x200000
	flagInline   = 0x10000000
	flagCasefold = 0x40000000
)

// Fields of inodes.
const (
	inodeBase  = 128 // bytes that all inodes have
	inodeBlock = 0x28
	blockArea  = 60 // bytes: block numbers, the root of a tree, or data
	sizeHigh   = 0x6c
	sumLow     = 0x7c
	sumHigh    = 0x82
)

// inode is an inode as its table has it. raw is shared: nobody changes it.
type inode struct {
	num        uint32
	raw        []byte
	base       int // bytes with fields; attributes may follow
	mode       uint16
	flags      uint32
	generation uint32
	links      uint16
	size       int64
}

// inode reads any inode.
func (f *FS) inode(num uint32) (*inode, error) {
	if num == 0 || num > f.sb.inodes {
		return nil, fsread.Corrupt(layer, "inode %d of %d is referred to", num, f.sb.inodes)
	}
	group, index := (num-1)/f.sb.inodesPerGroup, (num-1)%f.sb.inodesPerGroup
	table, err := f.inodeTable(uint64(group))
	if err != nil {
		return nil, err
	}
	off := int64(index) * int64(f.sb.inodeSize)
	b, err := f.disk.block(table + uint64(off/f.sb.blockSize))
	if err != nil {
		return nil, err
	}
	off %= f.sb.blockSize
	n := &inode{num: num, raw: b[off : off+int64(f.sb.inodeSize)]}
	return n, n.parse(f.sb)
}

func (n *inode) parse(s *super) error {
	b := n.raw
	n.mode, n.links = le.Uint16(b), le.Uint16(b[0x1a:])
	n.flags, n.generation = le.Uint32(b[0x20:]), le.Uint32(b[0x64:])
	n.base = inodeBase
	if len(b) > inodeBase {
		extra := int(le.Uint16(b[0x80:]))
		n.base += extra
		if n.base > len(b) || extra&3 != 0 {
			return fsread.Corrupt(layer, "inode %d: %d bytes of fields more, inodes have %d", n.num, extra, len(b))
		}
	}
	if s.checksums() && !n.whole(s) {
		return fsread.Corrupt(layer, "the checksum of inode %d is wrong", n.num)
	}
	size := uint64(le.Uint32(b[4:]))
	if n.mode&0xf000 == 0x8000 || s.incompat&incompatLargeDir != 0 {
		size |= uint64(le.Uint32(b[sizeHigh:])) << 32
	}
	if size > (1<<32-1)*uint64(s.blockSize) {
		return fsread.Corrupt(layer, "inode %d: a file of %d bytes", n.num, size)
	}
	n.size = int64(size)
	return nil
}

// whole reports that the inode has its checksum.
func (n *inode) whole(s *super) bool {
	sum := crc32cWithout(n.seed(s), n.raw[:inodeBase], sumLow, 2)
	want := uint32(le.Uint16(n.raw[sumLow:]))
	if len(n.raw) == inodeBase {
		return sum&0xffff == want
	}
	if n.base < sumHigh+2 {
		return crc32c(sum, n.raw[inodeBase:])&0xffff == want
	}
	sum = crc32cWithout(sum, n.raw[inodeBase:], sumHigh-inodeBase, 2)
	return sum == want|uint32(le.Uint16(n.raw[sumHigh:]))<<16
}

// seed begins the checksums of an inode and of the blocks that it owns.
func (n *inode) seed(s *super) uint32 { return crc32cWord(crc32cWord(s.seed, n.num), n.generation) }

// area is where the numbers of blocks are, or what takes their place.
func (n *inode) area() []byte { return n.raw[inodeBlock : inodeBlock+blockArea] }

// kinds by the upper four bits of a mode.
var kinds = [16]fsread.Kind{
	1: fsread.FIFO, 2: fsread.CharDevice, 4: fsread.Directory, 6: fsread.BlockDevice,
	8: fsread.Regular, 10: fsread.Symlink, 12: fsread.Socket,
}

func (n *inode) kind() fsread.Kind { return kinds[n.mode>>12] }

func (n *inode) stat() fsread.Stat {
	b := n.raw
	st := fsread.Stat{
		ID: fsread.ID{Number: uint64(n.num)}, Kind: n.kind(), Mode: uint32(n.mode) & 0o7777,
		UID:   uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[0x78:]))<<16,
		GID:   uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7a:]))<<16,
		Links: uint32(n.links), Size: n.size,
		Accessed: n.time(0x8, 0x8c), Changed: n.time(0xc, 0x84), Modified: n.time(0x10, 0x88),
	}
	if n.base >= 0x94 {
		st.Created = n.time(0x90, 0x94)
	}
	switch st.Kind {
	case fsread.CharDevice, fsread.BlockDevice:
		st.Major, st.Minor = n.device()
	case fsread.Regular, fsread.Directory, fsread.Symlink:
		return st
	}
	st.Size = 0
	return st
}

// time reads seconds, and where the inode has them nanoseconds with two more bits
// of the seconds.
func (n *inode) time(at, extra int) time.Time {
	sec, nsec := int64(int32(le.Uint32(n.raw[at:]))), int64(0)
	if n.base >= extra+4 {
		x := le.Uint32(n.raw[extra:])
		sec += int64(x&3) << 32
		nsec = int64(x >> 2)
	}
	return time.Unix(sec, nsec)
}

// device decodes the number of a device: 8 and 8 bits, or 12 and 20.
func (n *inode) device() (major, minor uint32) {
	if d := le.Uint32(n.area()); d != 0 {
		return d >> 8 & 0xff, d & 0xff
	}
	d := le.Uint32(n.area()[4:])
	return d >> 8 & 0xfff, d&0xff | d>>12&0xfff00
}
