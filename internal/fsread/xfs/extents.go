package xfs

import (
	"sort"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

const (
	extentSize = 16
	maxLevels  = 9
	rootHeader = 4  // of a B-tree's root in an inode: level, number
	header4    = 24 // of other blocks of it
	header5    = 72
)

// extent is a run of blocks of a fork.
type extent struct {
	first, block, count uint64
	unwritten           bool
}

func parseExtent(b []byte) extent {
	hi, lo := be.Uint64(b), be.Uint64(b[8:])
	return extent{
		first: hi >> 9 & (1<<54 - 1), block: hi&0x1ff<<43 | lo>>21, count: lo & (1<<21 - 1), unwritten: hi>>63 != 0,
	}
}

// mapping finds the extents of a fork.
type mapping struct {
	fs *FS
	n  *inode
	k  *fork

	mu    sync.Mutex
	leaf  []extent // that was used last: all, unless the fork is a B-tree
	from  uint64   // the blocks that leaf tells of
	until uint64
}

const endless = 1<<54 - 1

func (f *FS) mapping(n *inode, k *fork) (*mapping, error) {
	m := &mapping{fs: f, n: n, k: k}
	switch k.format {
	case formatExtents:
		var err error
		m.leaf, err = m.records(k.raw, int(k.extents))
		m.until = endless
		return m, err
	case formatBtree:
		return m, nil
	}
	return nil, fsread.Corrupt(layer, "inode %d has a fork of format %d, which has no extents", n.number, k.format)
}

// records reads extents, which must be in order.
func (m *mapping) records(b []byte, n int) ([]extent, error) {
	all := make([]extent, n)
	var next uint64
	for i := range all {
		e := parseExtent(b[i*extentSize:])
		if e.count == 0 || e.first < next {
			return nil, fsread.Corrupt(layer, "inode %d has an extent of %d blocks at %d, behind %d", m.n.number, e.count, e.first, next)
		}
		if _, err := m.fs.at(e.block); err != nil {
			return nil, err
		}
		if _, err := m.fs.at(e.block + e.count - 1); err != nil || e.block>>m.fs.groupLog != (e.block+e.count-1)>>m.fs.groupLog {
			return nil, fsread.Corrupt(layer, "inode %d has an extent of %d blocks from %d on", m.n.number, e.count, e.block)
		}
		all[i], next = e, e.first+e.count
	}
	return all, nil
}

// find is the extent that holds a block of the fork; count 0: a hole up to next.
func (m *mapping) find(block uint64) (e extent, next uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if block < m.from || block >= m.until {
		if err := m.descend(block); err != nil {
			return extent{}, 0, err
		}
	}
	i := sort.Search(len(m.leaf), func(i int) bool { return m.leaf[i].first+m.leaf[i].count > block })
	if i == len(m.leaf) {
		return extent{}, m.until, nil
	}
	if e := m.leaf[i]; e.first <= block {
		return e, 0, nil
	}
	return extent{}, m.leaf[i].first, nil
}

// descend loads the leaf of a B-tree that has a block.
func (m *mapping) descend(block uint64) error {
	b := m.k.raw
	level, count := int(be.Uint16(b)), int(be.Uint16(b[2:]))
	room := (len(b) - rootHeader) / 16
	if level < 1 || level > maxLevels || count < 1 || count > room {
		return fsread.Corrupt(layer, "inode %d has a B-tree of %d levels and %d branches", m.n.number, level, count)
	}
	from, until := uint64(0), uint64(endless)
	keys, ptrs := b[rootHeader:], b[rootHeader+8*room:]
	for {
		i := max(0, sort.Search(count, func(i int) bool { return be.Uint64(keys[8*i:]) > block })-1)
		if i > 0 {
			from = max(from, be.Uint64(keys[8*i:]))
		}
		if i+1 < count {
			until = min(until, be.Uint64(keys[8*i+8:]))
		}
		level--
		body, n, err := m.node(be.Uint64(ptrs[8*i:]), level)
		if err != nil {
			return err
		}
		if level == 0 {
			leaf, err := m.records(body, n)
			if err != nil {
				return err
			}
			m.leaf, m.from, m.until = leaf, from, until
			if until <= block || from > block {
				return fsread.Corrupt(layer, "inode %d has a B-tree out of order", m.n.number)
			}
			return nil
		}
		room = len(body) / 16
		keys, ptrs, count = body, body[8*room:], n
	}
}

// node reads a block of the B-tree, and gives what is behind its header.
func (m *mapping) node(block uint64, level int) (body []byte, n int, err error) {
	at, err := m.fs.at(block)
	if err != nil {
		return nil, 0, err
	}
	b := make([]byte, m.fs.block)
	newer, err := m.fs.readNewer(b, at)
	if err != nil {
		return nil, 0, err
	}
	magic, header := "BMAP", header4
	if m.fs.v5 {
		magic, header = "BMA3", header5
	}
	n = int(be.Uint16(b[6:]))
	switch {
	case string(b[:4]) != magic || int(be.Uint16(b[4:])) != level || n < 1 || n > (len(b)-header)/16:
		return nil, 0, fsread.Corrupt(layer, "inode %d has block %d in its B-tree, which is no node of level %d", m.n.number, block, level)
	case m.fs.v5 && (!newer && !checksum(b, 64) || be.Uint64(b[56:]) != m.n.number):
		return nil, 0, fsread.Corrupt(layer, "inode %d has block %d in its B-tree, whose checksum or owner is wrong", m.n.number, block)
	}
	return b[header:], n, nil
}

// run is what fsread knows of the bytes at off.
func (m *mapping) run(off int64) (fsread.Run, error) {
	log := m.fs.blockLog
	e, next, err := m.find(uint64(off) >> log)
	if err != nil {
		return fsread.Run{}, err
	}
	if e.count == 0 {
		start := off >> log << log
		end := int64(1) << 62
		if next < 1<<(62-log) {
			end = int64(next << log)
		}
		return fsread.Run{Offset: start, Length: end - start, At: fsread.Hole}, nil
	}
	r := fsread.Run{Offset: int64(e.first << log), Length: int64(e.count << log), At: fsread.Hole}
	if !e.unwritten {
		r.At, err = m.fs.at(e.block)
	}
	return r, err
}

// state is where blocks of a fork are.
type state int

const (
	absent state = iota
	stored
	logged // some of it is newer, and no checksum counts
)

// blockRead reads whole blocks of a fork.
func (m *mapping) blockRead(p []byte, first uint64) (state, error) {
	found := stored
	for len(p) > 0 {
		e, _, err := m.find(first)
		if err != nil || e.count == 0 || e.unwritten {
			return absent, err
		}
		at, err := m.fs.at(e.block + first - e.first)
		if err != nil {
			return absent, err
		}
		n := min(uint64(len(p))>>m.fs.blockLog, e.first+e.count-first)
		newer, err := m.fs.readNewer(p[:n<<m.fs.blockLog], at)
		if err != nil {
			return absent, err
		}
		if newer {
			found = logged
		}
		p, first = p[n<<m.fs.blockLog:], first+n
	}
	return found, nil
}
