package ext

import "github.com/holdfast-backup/holdfast/internal/fsread"

// descriptor finds the block in which a group's descriptor lies, and where.
//
// They follow the superblock, all together; from firstMeta on, those that fill
// one block lie in the first of the groups that they describe.
func (s *super) descriptor(group uint64) (block uint64, off int) {
	perBlock := uint64(s.blockSize) / uint64(s.descSize)
	n, off := group/perBlock, int(group%perBlock)*s.descSize
	if s.incompat&incompatMetaBG == 0 || n < s.firstMeta {
		return superOffset/uint64(s.blockSize) + 1 + n, off
	}
	first := n * perBlock // a group
	block = s.firstBlock + first*s.perGroup
	if s.hasSuper(first) {
		block++
		if first == 0 && s.blockSize == 1024 && s.firstBlock == 0 {
			block++ // the superblock is block 1 of this group
		}
	}
	return block, off
}

// hasSuper reports that a group begins with a superblock.
func (s *super) hasSuper(group uint64) bool {
	switch {
	case group == 0:
		return true
	case s.compat&compatSparseSuper2 != 0:
		return group == uint64(s.backups[0]) || group == uint64(s.backups[1])
	case group == 1 || s.ro&roSparseSuper == 0:
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// inodeTable is the first block of the inodes of a group.
func (f *FS) inodeTable(group uint64) (uint64, error) {
	block, off := f.sb.descriptor(group)
	b, err := f.disk.block(block)
	if err != nil {
		return 0, err
	}
	d := b[off : off+f.sb.descSize]
	if f.sb.groupChecksum(group, d) != le.Uint16(d[0x1e:]) {
		return 0, fsread.Corrupt(layer, "the checksum of the descriptor of group %d is wrong", group)
	}
	table := uint64(le.Uint32(d[8:]))
	if f.sb.descSize >= 64 && f.sb.incompat&incompat64bit != 0 {
		table |= uint64(le.Uint32(d[0x28:])) << 32
	}
	if table <= f.sb.firstBlock || table >= f.sb.blocks {
		return 0, fsread.Corrupt(layer, "group %d: its inodes are at block %d of %d", group, table, f.sb.blocks)
	}
	return table, nil
}

// groupChecksum is what a descriptor should say; without checksums, what it says.
func (s *super) groupChecksum(group uint64, d []byte) uint16 {
	switch {
	case s.checksums():
		return uint16(crc32cWithout(crc32cWord(s.seed, uint32(group)), d, 0x1e, 2))
	case s.ro&roGDTCsum != 0:
		crc := crc16(^uint16(0), s.uuid[:])
		crc = crc16(crc, le.AppendUint32(nil, uint32(group)))
		crc = crc16(crc, d[:0x1e])
		return crc16(crc, d[0x20:])
	}
	return le.Uint16(d[0x1e:])
}
