package ext

import (
	"strings"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// An entry of a directory:
//
//	offset  size
//	0       4     inode; 0: unused
//	4       2     bytes to the next entry, a multiple of 4
//	6       1     length of the name
//	7       1     kind of the file, with feature filetype
//	8             name
//
// Entries fill each block. The last one of a block with a checksum is unused, has
// 12 bytes and kind 0xde, and ends with the checksum.
const (
	entryHead = 8
	entryMin  = 12
	tailKind  = 0xde
	inlineDot = 4 // bytes in the inode before the entries: the inode of the parent
)

// kinds of entries.
var entryKinds = [8]fsread.Kind{
	1: fsread.Regular, 2: fsread.Directory, 3: fsread.CharDevice, 4: fsread.BlockDevice, 5: fsread.FIFO,
	6: fsread.Socket, 7: fsread.Symlink,
}

// directory is the inode of a directory whose entries can be read.
func (f *FS) directory(id fsread.ID) (*inode, error) {
	n, err := f.used(id)
	switch {
	case err != nil:
		return nil, err
	case n.kind() != fsread.Directory:
		return nil, fsread.ErrNotDir
	case n.flags&flagEncrypt != 0:
		return nil, fsread.Unsupported(layer, "inode %d: an encrypted directory", n.num)
	}
	return n, nil
}

// entries calls fn for each entry of a directory.
func (f *FS) entries(n *inode, fn func(fsread.Entry) error) error {
	if n.flags&flagInline != 0 {
		rest, err := f.inlineRest(n)
		if err != nil {
			return err
		}
		return f.parse(n, append(append([]byte(nil), n.area()[inlineDot:]...), rest...), fn)
	}
	blocks := uint64(n.size) / uint64(f.sb.blockSize)
	if blocks > f.sb.blocks || n.size%f.sb.blockSize != 0 {
		return fsread.Corrupt(layer, "inode %d: a directory of %d bytes", n.num, n.size)
	}
	m, once, told := f.mapping(n), visits{}, uint64(0)
	for i := uint64(0); i < blocks; {
		r, err := m.at(i)
		if err != nil {
			return err
		}
		if i >= told {
			told = f.announce(m, i, blocks)
		}
		if r.at == 0 {
			return fsread.Corrupt(layer, "inode %d: block %d of a directory is a hole", n.num, i)
		}
		end := min(r.first+r.count, blocks)
		at := r.at + i - r.first
		for ; i < end; i, at = i+1, at+1 {
			if err := once.visit(n, at); err != nil {
				return err
			}
			b, err := f.disk.block(at)
			if err != nil {
				return err
			}
			if err := f.checkDirBlock(n, b, i); err != nil {
				return err
			}
			if err := f.parse(n, b, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// announcedRuns is how many runs of a directory are announced at a time. A
// directory that grew slowly lies in many places.
const announcedRuns = 32

// announce has the runs of a directory fetched from block i on, and returns the
// block behind them. What is wrong is told when it is read.
func (f *FS) announce(m mapper, i, blocks uint64) uint64 {
	for n := 0; n < announcedRuns && i < blocks; n++ {
		r, err := m.at(i)
		if err != nil || r.at == 0 || r.first+r.count <= i {
			break
		}
		end := min(r.first+r.count, blocks)
		image.WillNeed(f.disk.img, int64(r.at+i-r.first)*f.sb.blockSize, int64(end-i)*f.sb.blockSize)
		i = end
	}
	return i
}

// visits are the blocks that were read, 64 to a word: a directory that has one
// twice is read no further, or a small image could keep its reader busy for ever.
type visits map[uint64]uint64

// maxVisits bounds the words, far beyond directories that are made.
const maxVisits = 1 << 20

func (v visits) visit(n *inode, at uint64) error {
	word, bit := v[at/64], uint64(1)<<(at%64)
	switch {
	case word&bit != 0:
		return fsread.Corrupt(layer, "inode %d: block %d is in the directory twice", n.num, at)
	case word == 0 && len(v) == maxVisits:
		return fsread.Unsupported(layer, "inode %d: a directory in more than %d places", n.num, maxVisits)
	}
	v[at/64] = word | bit
	return nil
}

// parse goes through the entries of a block.
func (f *FS) parse(n *inode, b []byte, fn func(fsread.Entry) error) error {
	for len(b) > 0 {
		if len(b) < entryMin {
			return fsread.Corrupt(layer, "inode %d: an entry of the directory has no room", n.num)
		}
		num, length, name := le.Uint32(b), f.entryLength(b), int(b[6])
		switch {
		case length < entryMin, length%4 != 0, length < entryHead+name, length > len(b):
			return fsread.Corrupt(layer, "inode %d: an entry of %d bytes with a name of %d, where %d bytes are left", n.num, length, name, len(b))
		case num > f.sb.inodes:
			return fsread.Corrupt(layer, "inode %d: an entry leads to inode %d of %d", n.num, num, f.sb.inodes)
		}
		if num != 0 {
			e := fsread.Entry{Name: string(b[entryHead : entryHead+name]), ID: fsread.ID{Number: uint64(num)}}
			if f.sb.incompat&incompatFiletype != 0 && int(b[7]) < len(entryKinds) {
				e.Kind = entryKinds[b[7]]
			}
			if f.isName(e.Name) {
				if err := fn(e); err != nil {
					return err
				}
			}
		}
		b = b[length:]
	}
	return nil
}

// isName leaves out the entries for the directory itself and its parent, and
// counts those that no file can have.
func (f *FS) isName(name string) bool {
	if name == "." || name == ".." {
		return false
	}
	if !possible(name) {
		f.odd.Add(1)
		return false
	}
	return true
}

func possible(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// entryLength decodes lengths; those of blocks of 64 KiB do not fit as they are.
func (f *FS) entryLength(b []byte) int {
	n := int(le.Uint16(b[4:]))
	switch {
	case f.sb.blockSize < 1<<16:
		return n
	case n == 0 || n == 0xffff:
		return 1 << 16
	}
	return n&^3 | n&3<<16
}

// checkDirBlock checks the checksum of block i of a directory.
func (f *FS) checkDirBlock(n *inode, b []byte, i uint64) error {
	if !f.sb.checksums() {
		return nil
	}
	ok := false
	if f.indexed(n) && (i == 0 || le.Uint32(b) == 0 && f.entryLength(b) == len(b)) {
		ok = f.nodeWhole(n, b)
	} else {
		tail := len(b) - entryMin
		ok = le.Uint32(b[tail:]) == 0 && le.Uint16(b[tail+4:]) == entryMin && b[tail+6] == 0 && b[tail+7] == tailKind &&
			crc32c(n.seed(f.sb), b[:tail]) == le.Uint32(b[tail+8:])
	}
	if !ok {
		return fsread.Corrupt(layer, "inode %d: the checksum of block %d of the directory is wrong", n.num, i)
	}
	return nil
}
