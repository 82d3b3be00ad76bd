package squashfs

import "github.com/holdfast-backup/holdfast/internal/fsread"

// blockList finds the blocks of a file, whose lengths follow its inode: where a block
// lies is known once those before it are counted. It remembers some places on the way,
// the further apart the more there are.
type blockList struct {
	marks  []mark // block i*stride
	stride int64
	here   mark // behind the block that was found last
}

// mark is a place in the list: the lengths from here on are those of the blocks from
// this one on.
type mark struct {
	block int64
	at    int64 // of the block
	c     cursor
}

const (
	firstStride = 2048 // as many lengths as a block of metadata has
	maxMarks    = 4096
)

func newBlockList(c cursor, at int64) *blockList {
	start := mark{at: at, c: c}
	return &blockList{marks: []mark{start}, stride: firstStride, here: start}
}

// find gives the place of a block, and its length as it is stored.
func (l *blockList) find(block int64) (at int64, stored uint32, err error) {
	m := l.marks[min(block/l.stride, int64(len(l.marks)-1))]
	if l.here.block <= block && l.here.block > m.block {
		m = l.here
	}
	var b [metaSize]byte
	for m.block < block {
		next := min(block, (m.block/l.stride+1)*l.stride)
		lengths := b[:4*min(next-m.block, metaSize/4)]
		if err := m.read(lengths); err != nil {
			return 0, 0, err
		}
		l.note(m)
	}
	l.here = m
	at = m.at
	if err := m.c.read(b[:4]); err != nil {
		return 0, 0, err
	}
	stored = le.Uint32(b[:])
	if n := stored &^ packedNot; n > maxBlock {
		return 0, 0, fsread.Corrupt(layer, "block %d of a file says %d bytes", block, n)
	}
	return at, stored, nil
}

// read passes the blocks whose lengths fit into b.
func (m *mark) read(b []byte) error {
	if err := m.c.read(b); err != nil {
		return err
	}
	m.block += int64(len(b) / 4)
	for ; len(b) > 0; b = b[4:] {
		n := le.Uint32(b) &^ packedNot
		if n > maxBlock {
			return fsread.Corrupt(layer, "a file has a block of %d bytes", n)
		}
		m.at += int64(n)
	}
	return nil
}

// note remembers a place if it is the next to be remembered.
func (l *blockList) note(m mark) {
	if m.block != int64(len(l.marks))*l.stride {
		return
	}
	if l.marks = append(l.marks, m); len(l.marks) <= maxMarks {
		return
	}
	half := l.marks[:0]
	for i := 0; i < len(l.marks); i += 2 {
		half = append(half, l.marks[i])
	}
	l.marks, l.stride = half, 2*l.stride
}
