package xfs

import (
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Formats of forks.
const (
	formatDevice  = 0
	formatLocal   = 1
	formatExtents = 2
	formatBtree   = 3
)

// Flags of inodes.
const (
	flagRealtime  = 0x1
	flags2Bigtime = 0x8
	flags2Nrext64 = 0x10
)

// Kinds, as modes have them.
var kinds = map[uint16]fsread.Kind{
	0o100000: fsread.Regular, 0o040000: fsread.Directory, 0o120000: fsread.Symlink, 0o020000: fsread.CharDevice,
	0o060000: fsread.BlockDevice, 0o010000: fsread.FIFO, 0o140000: fsread.Socket,
}

// fork is what an inode holds of data or of attributes.
type fork struct {
	format  byte
	extents uint64
	raw     []byte
}

// inode is one file.
type inode struct {
	number   uint64
	mode     uint16
	uid, gid uint32
	links    uint32
	size     int64
	flags    uint16
	accessed time.Time
	modified time.Time
	changed  time.Time
	created  time.Time
	data     fork
	attr     fork // without raw: none
}

func (n *inode) kind() fsread.Kind { return kinds[n.mode&0o170000] }

// load reads an inode.
func (f *FS) load(number uint64) (*inode, error) {
	f.mu.Lock()
	n := f.cache[number]
	f.mu.Unlock()
	if n != nil {
		return n, nil
	}
	at, err := f.at(number >> f.perLog)
	if err != nil {
		return nil, fsread.Corrupt(layer, "inode %d does not exist", number)
	}
	b := make([]byte, f.inode)
	if err := f.read(b, at+int64(number&(1<<f.perLog-1))*f.inode); err != nil {
		return nil, err
	}
	if n, err = f.parse(number, b); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.cache) >= 256 {
		clear(f.cache)
	}
	f.cache[number] = n
	return n, nil
}

func (f *FS) parse(number uint64, b []byte) (*inode, error) {
	if string(b[:2]) != "IN" {
		return nil, fsread.Corrupt(layer, "inode %d begins with % x", number, b[:2])
	}
	n := &inode{
		number: number, mode: be.Uint16(b[2:]), uid: be.Uint32(b[8:]), gid: be.Uint32(b[12:]), links: be.Uint32(b[16:]),
		flags: be.Uint16(b[90:]),
	}
	var flags2 uint64
	core := 100
	switch b[4] {
	case 1:
		n.links = uint32(be.Uint16(b[6:]))
	case 2:
	case 3:
		if core = 176; len(b) < core || !f.v5 {
			return nil, fsread.Corrupt(layer, "inode %d has version 3 and %d bytes", number, len(b))
		}
		if !checksum(b, 100) {
			return nil, fsread.Corrupt(layer, "the checksum of inode %d is wrong", number)
		}
		if be.Uint64(b[152:]) != number {
			return nil, fsread.Corrupt(layer, "inode %d says that it is %d", number, be.Uint64(b[152:]))
		}
		flags2 = be.Uint64(b[120:])
	default:
		return nil, fsread.Corrupt(layer, "inode %d has version %d", number, b[4])
	}
	stamp := timestamp
	if flags2&flags2Bigtime != 0 {
		stamp = bigtime
	}
	n.accessed, n.modified, n.changed = stamp(b[32:]), stamp(b[40:]), stamp(b[48:])
	if b[4] == 3 {
		n.created = stamp(b[144:])
	}
	size := be.Uint64(b[56:])
	if size > 1<<62 {
		return nil, fsread.Corrupt(layer, "inode %d has %d bytes", number, size)
	}
	n.size = int64(size)
	if n.kind() == fsread.Unknown || n.mode&0o170000 == 0 {
		return nil, fsread.Corrupt(layer, "inode %d is not in use, or has the mode %#o", number, n.mode)
	}
	return n, n.forks(b, core, flags2)
}

// forks finds the two forks behind the core.
func (n *inode) forks(b []byte, core int, flags2 uint64) error {
	rest, at := b[core:], int(b[82])*8
	if at > len(rest) {
		return fsread.Corrupt(layer, "inode %d has attributes at %d of %d", n.number, at, len(rest))
	}
	n.data = fork{format: b[5], extents: uint64(be.Uint32(b[76:])), raw: rest}
	attrs := uint64(be.Uint16(b[80:]))
	if flags2&flags2Nrext64 != 0 {
		n.data.extents, attrs = be.Uint64(b[24:]), uint64(be.Uint32(b[76:]))
	}
	if at > 0 {
		n.data.raw = rest[:at]
		n.attr = fork{format: b[83], extents: attrs, raw: rest[at:]}
	}
	for _, k := range []*fork{&n.data, &n.attr} {
		if k.format == formatExtents && k.extents > uint64(len(k.raw)/extentSize) {
			return fsread.Corrupt(layer, "inode %d has %d extents in %d bytes", n.number, k.extents, len(k.raw))
		}
	}
	return nil
}

// timestamp is seconds and nanoseconds, 4 bytes each.
func timestamp(b []byte) time.Time {
	return time.Unix(int64(int32(be.Uint32(b))), int64(int32(be.Uint32(b[4:])))).UTC()
}

// bigtime is nanoseconds since the end of 1901.
func bigtime(b []byte) time.Time {
	v := be.Uint64(b)
	return time.Unix(int64(v/1e9)-1<<31, int64(v%1e9)).UTC()
}
