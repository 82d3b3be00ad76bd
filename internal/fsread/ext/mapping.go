package ext

import (
	"sort"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// run is blocks of a file that lie side by side, or a hole.
type run struct {
	first, count uint64 // blocks of the file
	at           uint64 // where the first one is; 0: they read as zeros
}

// endBlock is behind the last block that a file can have.
const endBlock = 1 << 32

// mapper says where a file's blocks are.
type mapper interface {
	// at is a run that holds a block below endBlock. It may be a part of a
	// longer one.
	at(block uint64) (run, error)
}

// mapping is that of an inode which has blocks.
func (f *FS) mapping(n *inode) mapper {
	if n.flags&flagExtents != 0 {
		return &extents{fs: f, inode: n, seed: n.seed(f.sb)}
	}
	return &indirect{fs: f, inode: n}
}

// extents is a tree of extents. Its nodes begin with a header:
//
//	offset  size
//	0       2     f30a
//	2       2     entries
//	4       2     room for entries
//	6       2     levels below; 0: a leaf
//	8       4     generation
//
// and have entries of 12 bytes: of a leaf, the first block of the file (4), the
// number of blocks (2; 32768 more: they read as zeros), and where they are (2 upper
// bytes, 4 lower ones); above, the first block of the file below it (4) and where
// that node is (4 lower bytes, 2 upper ones). Behind the room for entries of a block
// is its checksum.
type extents struct {
	fs    *FS
	inode *inode
	seed  uint32
	last  atomic.Pointer[leaf] // that was used
}

const (
	extentMagic = 0xf30a
	extentSize  = 12 // of the header, too
	maxDepth    = 5
	unwritten   = 32768
)

// leaf is all that is known of the blocks [from, to).
type leaf struct {
	from, to uint64
	runs     []run // those that are not holes, in order
}

func (l *leaf) find(block uint64) run {
	i := sort.Search(len(l.runs), func(i int) bool { return l.runs[i].first > block })
	r := run{first: l.from, count: l.to - l.from}
	if i > 0 {
		prev := l.runs[i-1]
		if block < prev.first+prev.count {
			return prev
		}
		r.first = prev.first + prev.count
	}
	end := l.to
	if i < len(l.runs) {
		end = l.runs[i].first
	}
	r.count = end - r.first
	return r
}

func (x *extents) at(block uint64) (run, error) {
	l := x.last.Load()
	if l == nil || block < l.from || block >= l.to {
		var err error
		if l, err = x.leaf(block); err != nil {
			return run{}, err
		}
		x.last.Store(l)
	}
	return l.find(block), nil
}

// leaf goes down the tree to where block is.
func (x *extents) leaf(block uint64) (*leaf, error) {
	b, key := x.inode.area(), int64(-1)
	l := &leaf{to: endBlock}
	depth := int(le.Uint16(b[6:]))
	if depth > maxDepth {
		return nil, x.corrupt("a tree of %d levels", depth)
	}
	for ; ; depth-- {
		entries, err := x.entries(b, depth, key)
		if err != nil {
			return nil, err
		}
		if depth == 0 {
			l.runs, err = x.runs(entries, l.to)
			return l, err
		}
		i := sort.Search(len(entries)/extentSize, func(i int) bool { return uint64(le.Uint32(entries[i*extentSize:])) > block })
		if i*extentSize < len(entries) {
			l.to = uint64(le.Uint32(entries[i*extentSize:]))
		}
		if i == 0 {
			return l, nil // before the first one
		}
		e := entries[(i-1)*extentSize:]
		key = int64(le.Uint32(e))
		l.from = uint64(key)
		at := uint64(le.Uint32(e[4:])) | uint64(le.Uint16(e[8:]))<<32
		if b, err = x.fs.disk.block(at); err != nil {
			return nil, err
		}
	}
}

// entries are those of a node. Its first one begins where the node above says
// (key), and that is how no node can be met twice; -1 is the root.
func (x *extents) entries(b []byte, depth int, key int64) ([]byte, error) {
	count, room := int(le.Uint16(b[2:])), int(le.Uint16(b[4:]))
	switch {
	case le.Uint16(b) != extentMagic:
		return nil, x.corrupt("a node of its tree has another magic")
	case int(le.Uint16(b[6:])) != depth:
		return nil, x.corrupt("a node of level %d where %d is awaited", le.Uint16(b[6:]), depth)
	case count > room, extentSize+room*extentSize > len(b), count == 0 && depth > 0:
		return nil, x.corrupt("a node with %d of %d entries in %d bytes", count, room, len(b))
	}
	if x.fs.sb.checksums() && key >= 0 {
		tail := extentSize + room*extentSize
		if tail+4 > len(b) || crc32c(x.seed, b[:tail]) != le.Uint32(b[tail:]) {
			return nil, x.corrupt("the checksum of a node of its tree is wrong")
		}
	}
	entries := b[extentSize : extentSize+count*extentSize]
	if key >= 0 && (count == 0 || int64(le.Uint32(entries)) != key) {
		return nil, x.corrupt("a node does not begin at block %d", key)
	}
	if depth > 0 {
		for i := extentSize; i < len(entries); i += extentSize {
			if le.Uint32(entries[i:]) <= le.Uint32(entries[i-extentSize:]) {
				return nil, x.corrupt("a node whose entries are not in order")
			}
		}
	}
	return entries, nil
}

// runs are the extents of a leaf that ends before to.
func (x *extents) runs(entries []byte, to uint64) ([]run, error) {
	all := make([]run, 0, len(entries)/extentSize)
	var end uint64
	for ; len(entries) > 0; entries = entries[extentSize:] {
		r := run{first: uint64(le.Uint32(entries)), count: uint64(le.Uint16(entries[4:]))}
		r.at = uint64(le.Uint16(entries[6:]))<<32 | uint64(le.Uint32(entries[8:]))
		zeros := r.count > unwritten
		if zeros {
			r.count -= unwritten
		}
		switch {
		case r.count == 0, r.first < end, r.first+r.count > to:
			return nil, x.corrupt("an extent of %d blocks at %d overlaps another", r.count, r.first)
		case r.at <= x.fs.sb.firstBlock, r.at+r.count > x.fs.sb.blocks:
			return nil, x.corrupt("an extent of %d blocks at block %d of %d", r.count, r.at, x.fs.sb.blocks)
		}
		end = r.first + r.count
		if !zeros {
			all = append(all, r)
		}
	}
	return all, nil
}

func (x *extents) corrupt(format string, args ...any) error {
	return fsread.Corrupt(layer, "inode %d: "+format, append([]any{x.inode.num}, args...)...)
}
