package ext

import "github.com/holdfast-backup/holdfast/internal/fsread"

// indirect is the mapping of ext2 and ext3: the inode has the numbers of twelve
// blocks, then of a block of numbers, of a block of numbers of such blocks, and
// of one more level. Zero is a hole, at every level.
type indirect struct {
	fs    *FS
	inode *inode
}

const direct = 12

func (m *indirect) at(block uint64) (run, error) {
	numbers, first := m.inode.area()[:4*direct], uint64(0)
	if block >= direct {
		perBlock := uint64(m.fs.sb.blockSize) / 4
		first = direct
		level, span := 1, perBlock // span: blocks below one number in the inode
		for ; block >= first+span; level++ {
			if level == 3 {
				return run{}, fsread.Corrupt(layer, "inode %d: it has no block %d", m.inode.num, block)
			}
			first += span
			span *= perBlock
		}
		numbers = m.inode.area()[4*(direct+level-1):][:4]
		for ; level > 0; level-- {
			i := (block - first) / span
			first += i * span
			at := uint64(le.Uint32(numbers[4*i:]))
			if at == 0 {
				return run{first: first, count: span}, nil
			}
			var err error
			if numbers, err = m.numbers(at); err != nil {
				return run{}, err
			}
			span /= perBlock
		}
	}
	return m.run(numbers, block, first)
}

// run is as long as the numbers follow each other. first is the block of the
// file that the first number stands for.
func (m *indirect) run(numbers []byte, block, first uint64) (run, error) {
	numbers = numbers[4*(block-first):]
	r := run{first: block, count: 1, at: uint64(le.Uint32(numbers))}
	for len(numbers) > int(4*r.count) {
		next := uint64(le.Uint32(numbers[4*r.count:]))
		if r.at == 0 && next != 0 || r.at != 0 && next != r.at+r.count {
			break
		}
		r.count++
	}
	if r.at != 0 && (r.at <= m.fs.sb.firstBlock || r.at+r.count > m.fs.sb.blocks) {
		return run{}, fsread.Corrupt(layer, "inode %d: its blocks %d and following are at block %d of %d",
			m.inode.num, r.first, r.at, m.fs.sb.blocks)
	}
	return r, nil
}

func (m *indirect) numbers(at uint64) ([]byte, error) {
	if at <= m.fs.sb.firstBlock {
		return nil, fsread.Corrupt(layer, "inode %d: an indirect block at block %d", m.inode.num, at)
	}
	return m.fs.disk.block(at)
}
