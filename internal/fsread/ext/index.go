package ext

import (
	"sort"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// The index of a directory is a tree of hashes of names. Its root is in block 0,
// behind the entries "." and "..":
//
//	offset  size
//	24      4     zero
//	28      1     kind of hash
//	29      1     bytes from 24 to the entries: 8
//	30      1     levels between the root and the leaves
//
// Other nodes begin with an unused entry of 8 bytes, as long as the block. Entries of
// nodes have 8 bytes, a hash and a block of the directory, which has that hash and
// greater ones; in the place of the first hash are the room for entries and their
// number, 2 bytes each. If a name's hash goes on in another leaf, the lowest bit of
// the hash there is set. Behind the room for entries are 4 bytes and the checksum.
const (
	indexHead = 24
	indexSize = 8 // of an entry
)

// indexed reports that a directory has an index.
func (f *FS) indexed(n *inode) bool {
	return f.sb.compat&compatDirIndex != 0 && n.flags&(flagIndex|flagInline) == flagIndex
}

// step is a node of the way down, and which entry was taken.
type step struct {
	entries []byte
	i       int
}

func (s step) block() uint64 { return uint64(le.Uint32(s.entries[s.i*indexSize+4:]) & 0x0fffffff) }

func (s step) hash(i int) uint32 { return le.Uint32(s.entries[i*indexSize:]) }

// lookupIndexed finds a name by its hash. ok is false if the index does not make
// sense; the directory may be whole all the same.
func (f *FS) lookupIndexed(n *inode, name string) (e fsread.Entry, ok bool, err error) {
	d := dirBlocks{fs: f, inode: n, file: f.mapping(n), blocks: uint64(n.size) / uint64(f.sb.blockSize)}
	root, err := d.block(0)
	if err != nil {
		return e, false, err
	}
	hash, ok := f.sb.hash.of(root[28], name)
	levels := int(root[30])
	if !ok || levels > f.sb.indexLevels() || le.Uint32(root[24:]) != 0 || root[29] != indexSize {
		return e, false, nil
	}
	way := make([]step, 0, 4)
	b, head := root, indexHead+indexSize
	for {
		entries, ok := indexEntries(b, head)
		if !ok {
			return e, false, nil
		}
		s := step{entries: entries}
		s.i = sort.Search(len(entries)/indexSize-1, func(i int) bool { return s.hash(i+1) > hash })
		way = append(way, s)
		if b, err = d.block(s.block()); err != nil {
			return e, false, err
		}
		if len(way) > levels {
			break
		}
		if le.Uint32(b) != 0 || f.entryLength(b) != len(b) {
			return e, false, nil
		}
		head = entryHead
	}
	for left := d.blocks; left > 0; left-- { // leaves
		var found *fsread.Entry
		if err := f.parse(n, b, func(e fsread.Entry) error {
			if e.Name == name {
				found = &e
			}
			return nil
		}); err != nil {
			return e, false, err
		}
		if found != nil {
			return *found, true, nil
		}
		if b, err = d.following(way, hash); err != nil {
			return e, false, err
		}
		if b == nil {
			return e, true, fsread.ErrNotExist
		}
	}
	return e, false, nil
}

func (s *super) indexLevels() int {
	if s.incompat&incompatLargeDir != 0 {
		return 2
	}
	return 1
}

// indexEntries are the entries of a node, which begin at head.
func indexEntries(b []byte, head int) ([]byte, bool) {
	room, count := int(le.Uint16(b[head:])), int(le.Uint16(b[head+2:]))
	if count == 0 || count > room || head+room*indexSize > len(b) {
		return nil, false
	}
	return b[head : head+count*indexSize], true
}

// nodeWhole reports that a node has its checksum.
func (f *FS) nodeWhole(n *inode, b []byte) bool {
	head := entryHead
	if f.entryLength(b) != len(b) {
		head = indexHead + indexSize
	}
	entries, ok := indexEntries(b, head)
	tail := head + int(le.Uint16(b[head:]))*indexSize
	if !ok || tail+8 > len(b) {
		return false
	}
	sum := crc32c(n.seed(f.sb), b[:head+len(entries)])
	return crc32cWithout(sum, b[tail:tail+8], 4, 4) == le.Uint32(b[tail+4:])
}

// dirBlocks are the blocks of a directory.
type dirBlocks struct {
	fs     *FS
	inode  *inode
	file   mapper
	blocks uint64
}

func (d *dirBlocks) block(i uint64) ([]byte, error) {
	if i >= d.blocks {
		return nil, fsread.Corrupt(layer, "inode %d: its index leads to block %d of %d", d.inode.num, i, d.blocks)
	}
	r, err := d.file.at(i)
	if err != nil {
		return nil, err
	}
	if r.at == 0 {
		return nil, fsread.Corrupt(layer, "inode %d: block %d of a directory is a hole", d.inode.num, i)
	}
	b, err := d.fs.disk.block(r.at + i - r.first)
	if err != nil {
		return nil, err
	}
	return b, d.fs.checkDirBlock(d.inode, b, i)
}

// following goes to the next leaf if a hash goes on there, else it gives nil.
func (d *dirBlocks) following(way []step, hash uint32) ([]byte, error) {
	up := len(way) - 1
	for ; way[up].i+1 == len(way[up].entries)/indexSize; up-- {
		if up == 0 {
			return nil, nil
		}
	}
	way[up].i++
	if way[up].hash(way[up].i) != hash|1 {
		return nil, nil
	}
	for {
		b, err := d.block(way[up].block())
		if err != nil || up == len(way)-1 {
			return b, err
		}
		entries, ok := indexEntries(b, entryHead)
		if !ok {
			return nil, fsread.Corrupt(layer, "inode %d: a node of its index has no entries", d.inode.num)
		}
		up++
		way[up] = step{entries: entries}
	}
}
