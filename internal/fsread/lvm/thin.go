package lvm

import (
	"hash/crc32"
	"sort"
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"github.com/holdfast-backup/holdfast/internal/image"
)

// A thin pool has blocks of data in one volume, and in another one, in blocks of
// 4096 bytes, which block of which thin volume they are. Block 0 of that is the
// superblock:
//
//	offset  size
//	0       4     checksum of the rest
//	32      8     magic
//	40      4     version: 1, 2
//	48      8     number of the last transaction
//	320     8     root of the map
//	336     4     sectors in a block of data
//	360     4     features that must be known
//
// The map is a B-tree of B-trees: from the number of a thin volume to the root of
// its tree, from blocks of it to blocks of data, with the time of writing in the
// lower 24 bits. A node:
//
//	0       4     checksum of the rest
//	4       4     1: values are nodes, 2: they are what is looked for
//	8       8     its own block
//	16      4     entries
//	20      4     room for entries
//	24      4     bytes in a value: 8
//	32            keys, 8 bytes each, in order; behind the room for them the values
const (
	thinBlock    = 4096
	thinMagic    = 27022010
	thinSuperSum = 160774
	thinNodeSum  = 121107
	nodeHead     = 32
	nodeInner    = 1
	nodeLeaf     = 2
	maxTree      = 16                   // levels
	maxSectors   = 1 << 30 / sectorSize // of a block of data, as Linux has it
	timeBits     = 24
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// thinPool is a pool, open.
type thinPool struct {
	name       string
	meta, data image.Image
	block      int64 // bytes
	root       uint64
}

// thin is the content of a segment of a thin volume.
func (o *opener) thin(name string, seg *section, size int64, level int) ([]place, error) {
	if _, ok := seg.values["external_origin"]; ok {
		return nil, fsread.Unsupported(layer, "%s/%s, a thin volume with an origin outside of its pool", o.group.Name, name)
	}
	pool, err := seg.string("thin_pool")
	if err != nil {
		return nil, err
	}
	device, err := seg.number("device_id")
	if err != nil {
		return nil, err
	}
	p, err := o.pool(pool, level)
	if err != nil {
		return nil, err
	}
	root, ok, err := p.device(uint64(device))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fsread.Unsupported(layer, "%s/%s, a thin volume that its pool does not have yet", o.group.Name, name)
	}
	m := &thinMap{pool: p, root: root}
	return []place{{img: fsread.NewFile(p.data, layer, size, m.run)}}, nil
}

// pool opens a pool and what it lies on.
func (o *opener) pool(name string, level int) (*thinPool, error) {
	s := o.group.text.sub("logical_volumes").sub(name)
	if len(s.order) != 1 || s.order[0].values["type"] != any("thin-pool") {
		return nil, fsread.Corrupt(layer, "logical volume %s/%s: it is no thin pool", o.group.Name, name)
	}
	seg := s.order[0]
	meta, err := seg.string("metadata")
	if err != nil {
		return nil, err
	}
	data, err := seg.string("pool")
	if err != nil {
		return nil, err
	}
	p := &thinPool{name: o.group.Name + "/" + name}
	if p.meta, err = o.volume(meta, level+1); err != nil {
		return nil, err
	}
	if p.data, err = o.volume(data, level+1); err != nil {
		return nil, err
	}
	return p, p.super(seg)
}

func (p *thinPool) super(seg *section) error {
	b := make([]byte, thinBlock)
	if err := fsread.ReadFull(p.meta, layer, b, 0); err != nil {
		return err
	}
	chunk, err := seg.number("chunk_size")
	if err != nil {
		return err
	}
	sectors := le.Uint32(b[336:])
	switch {
	case le.Uint64(b[32:]) != thinMagic || thinSum(b, thinSuperSum) != le.Uint32(b):
		return fsread.Corrupt(layer, "thin pool %s: its metadata has no whole superblock", p.name)
	case le.Uint32(b[40:]) < 1 || le.Uint32(b[40:]) > 2 || le.Uint32(b[360:]) != 0:
		return fsread.Unsupported(layer, "thin pool %s: metadata of version %d, features %#x", p.name, le.Uint32(b[40:]), le.Uint32(b[360:]))
	case int64(sectors) != chunk || sectors == 0 || sectors > maxSectors:
		return fsread.Corrupt(layer, "thin pool %s: blocks of %d sectors, its group says %d", p.name, sectors, chunk)
	}
	p.block, p.root = int64(sectors)*sectorSize, le.Uint64(b[320:])
	return nil
}

// thinSum is the checksum of a block of metadata.
func thinSum(b []byte, salt uint32) uint32 { return ^crc32.Update(0, castagnoli, b[4:]) ^ salt }

// node is a node of a tree.
type node struct{ keys, values []byte }

func (n node) count() int { return len(n.keys) / 8 }

func (n node) key(i int) uint64 { return le.Uint64(n.keys[8*i:]) }

func (n node) value(i int) uint64 { return le.Uint64(n.values[8*i:]) }

// upTo is the last entry whose key is not greater, or -1.
func (n node) upTo(key uint64) int {
	return sort.Search(n.count(), func(i int) bool { return n.key(i) > key }) - 1
}

// leaf goes down from a root to the leaf that would hold a key. Keys of the leaf
// end before end, as far as the nodes above know.
func (p *thinPool) leaf(root, key uint64) (n node, end uint64, err error) {
	end = 1<<64 - 1
	at := root
	for range maxTree {
		n, inner, err := p.node(at)
		if err != nil || !inner {
			return n, end, err
		}
		i := max(0, n.upTo(key))
		if i+1 < n.count() {
			end = min(end, n.key(i+1))
		}
		at = n.value(i)
	}
	return node{}, 0, fsread.Corrupt(layer, "thin pool %s: a tree of more than %d levels", p.name, maxTree)
}

func (p *thinPool) node(at uint64) (n node, inner bool, err error) {
	if at > uint64(p.meta.Size()/thinBlock) {
		return n, false, fsread.Corrupt(layer, "thin pool %s: block %d of its metadata is referred to", p.name, at)
	}
	b := make([]byte, thinBlock)
	if err := fsread.ReadFull(p.meta, layer, b, int64(at)*thinBlock); err != nil {
		return n, false, err
	}
	flags, count, room := le.Uint32(b[4:]), uint64(le.Uint32(b[16:])), uint64(le.Uint32(b[20:]))
	switch {
	case thinSum(b, thinNodeSum) != le.Uint32(b) || le.Uint64(b[8:]) != at:
		return n, false, fsread.Corrupt(layer, "thin pool %s: block %d of its metadata is no whole node", p.name, at)
	case flags != nodeInner && flags != nodeLeaf, le.Uint32(b[24:]) != 8, count > room, nodeHead+16*room > thinBlock,
		count == 0 && flags == nodeInner:
		return n, false, fsread.Corrupt(layer, "thin pool %s: node %d has %d of %d entries of kind %d", p.name, at, count, room, flags)
	}
	n = node{b[nodeHead:][:8*count], b[nodeHead+8*room:][:8*count]}
	return n, flags == nodeInner, nil
}

// device finds the tree of a thin volume.
func (p *thinPool) device(id uint64) (root uint64, ok bool, err error) {
	n, _, err := p.leaf(p.root, id)
	if err != nil {
		return 0, false, err
	}
	if i := n.upTo(id); i >= 0 && n.key(i) == id {
		return n.value(i), true, nil
	}
	return 0, false, nil
}

// thinMap is where the blocks of a thin volume are.
type thinMap struct {
	pool *thinPool
	root uint64
	last atomic.Pointer[thinLeaf] // that was used
}

// thinLeaf is a leaf, which knows all of [from, to).
type thinLeaf struct {
	node
	from, to uint64
}

// run finds the blocks around off that follow each other, or that do not exist.
func (m *thinMap) run(off int64) (fsread.Run, error) {
	size := m.pool.block
	block := uint64(off / size)
	l := m.last.Load()
	if l == nil || block < l.from || block >= l.to {
		n, end, err := m.pool.leaf(m.root, block)
		if err != nil {
			return fsread.Run{}, err
		}
		l = &thinLeaf{n, block, end}
		if n.count() > 0 {
			l.from = min(block, n.key(0))
		}
		m.last.Store(l)
	}
	i := l.upTo(block)
	if i < 0 || l.key(i) != block { // up to the next block that exists
		end := l.to
		if i+1 < l.count() {
			end = l.key(i + 1)
		}
		n := min(end-block, 1<<40/uint64(size))
		return fsread.Run{Offset: int64(block) * size, Length: int64(n) * size, At: fsread.Hole}, nil
	}
	at := l.value(i) >> timeBits
	n := uint64(1)
	for ; i+int(n) < l.count() && l.key(i+int(n)) == block+n && l.value(i+int(n))>>timeBits == at+n; n++ {
	}
	if at+n > uint64(m.pool.data.Size()/size) {
		return fsread.Run{}, fsread.Corrupt(layer, "thin pool %s: block %d of its data is referred to", m.pool.name, at)
	}
	return fsread.Run{Offset: int64(block) * size, Length: int64(n) * size, At: int64(at) * size}, nil
}
