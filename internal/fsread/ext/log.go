package ext

import "github.com/holdfast-backup/holdfast/internal/fsread"

// The superblock of the journal (jbd2).
const (
	logMagic = 0xc03b3998

	logDescriptor = 1 // kinds of blocks
	logCommit     = 2
	logSuperV1    = 3
	logSuperV2    = 4
	logRevoke     = 5

	logCompatChecksum = 0x1

	logRevokes     = 0x1
	log64bit       = 0x2
	logAsync       = 0x4
	logCsumV2      = 0x8
	logCsumV3      = 0x10
	logFastCommits = 0x20
	logKnown       = logRevokes | log64bit | logAsync | logCsumV2 | logCsumV3 | logFastCommits
)

// logInfo is what the superblock of the journal says.
type logInfo struct {
	incompat uint32
	compat   uint32
	first    uint32 // the log goes from here
	end      uint32 // to here, and around
	start    uint32 // where the oldest transaction begins, 0: nothing to do
	tid      uint32 // of the oldest transaction
	seed     uint32 // of checksums
}

func parseLog(b []byte, blockSize int64, blocks uint64) (l logInfo, err error) {
	kind := be.Uint32(b[4:])
	if be.Uint32(b) != logMagic || kind != logSuperV1 && kind != logSuperV2 {
		return l, fsread.Corrupt(layer, "journal: it has no superblock")
	}
	l = logInfo{
		first: be.Uint32(b[0x14:]), end: be.Uint32(b[0x10:]), start: be.Uint32(b[0x1c:]), tid: be.Uint32(b[0x18:]),
	}
	if size := be.Uint32(b[0xc:]); int64(size) != blockSize {
		return l, fsread.Corrupt(layer, "journal: blocks of %d bytes, those of the file system have %d", size, blockSize)
	}
	if kind == logSuperV2 {
		l.compat, l.incompat = be.Uint32(b[0x24:]), be.Uint32(b[0x28:])
	}
	if l.incompat&^logKnown != 0 {
		return l, fsread.Unsupported(layer, "a journal with an unknown feature (incompat %#x)", l.incompat&^logKnown)
	}
	l.seed = crc32c(^uint32(0), b[0x30:0x40])
	if l.checksums() {
		if l.incompat&logCsumV2 != 0 && l.incompat&logCsumV3 != 0 {
			return l, fsread.Corrupt(layer, "journal: two kinds of checksums")
		}
		if b[0x50] != 4 {
			return l, fsread.Unsupported(layer, "a journal with checksums of kind %d", b[0x50])
		}
		if crc32cWithout(^uint32(0), b[:1024], 0xfc, 4) != be.Uint32(b[0xfc:]) {
			return l, fsread.Corrupt(layer, "journal: the checksum of its superblock is wrong")
		}
	}
	if uint64(l.end) > blocks {
		return l, fsread.Corrupt(layer, "journal: %d blocks, its file has %d", l.end, blocks)
	}
	if l.incompat&logFastCommits != 0 {
		fast := be.Uint32(b[0x54:])
		if fast == 0 {
			fast = 256
		}
		if fast < l.end && l.end-fast >= 1024 {
			l.end -= fast
		}
	}
	if l.first == 0 || l.first >= l.end || l.start != 0 && (l.start < l.first || l.start >= l.end) {
		return l, fsread.Corrupt(layer, "journal: from block %d, used from %d, %d blocks", l.first, l.start, l.end)
	}
	return l, nil
}

func (l *logInfo) checksums() bool { return l.incompat&(logCsumV2|logCsumV3) != 0 }

// tail is the size of the checksum at the end of a block of tags or revocations.
func (l *logInfo) tail() int {
	if l.checksums() {
		return 4
	}
	return 0
}

// whole reports that a block of tags or revocations has its checksum.
func (l *logInfo) whole(b []byte) bool {
	n := len(b) - 4
	return !l.checksums() || crc32cWithout(l.seed, b, n, 4) == be.Uint32(b[n:])
}

// commits reports that a commit block has its checksum: its own, or, of the first
// kind and if it has one, that of all blocks of its transaction, which is sum.
func (l *logInfo) commits(b []byte, sum uint32) bool {
	const crc32, size = 1, 4
	switch {
	case l.checksums():
		return crc32cWithout(l.seed, b, 0x10, 4) == be.Uint32(b[0x10:])
	case l.sumsAll() && (b[0xc] != 0 || b[0xd] != 0 || be.Uint32(b[0x10:]) != 0):
		return b[0xc] == crc32 && b[0xd] == size && sum == be.Uint32(b[0x10:])
	}
	return true
}

// sumsAll reports a journal with checksums of the first kind.
func (l *logInfo) sumsAll() bool { return l.compat&logCompatChecksum != 0 && !l.checksums() }

// matches reports that a block in the journal is the one that its tag speaks of.
func (l *logInfo) matches(b []byte, tag logged) bool {
	if !l.checksums() {
		return true
	}
	var tid [4]byte
	be.PutUint32(tid[:], tag.tid)
	sum := crc32c(crc32c(l.seed, tid[:]), b)
	if l.incompat&logCsumV3 != 0 {
		return sum == tag.sum
	}
	return uint16(sum) == uint16(tag.sum)
}

// Flags of tags.
const (
	tagEscaped  = 1
	tagSameUUID = 2
	tagLast     = 8
)

// tags calls f for each block that a descriptor block announces, in the order in
// which they follow it. It gives false if they do not fit in.
func (l *logInfo) tags(b []byte, f func(logged)) bool {
	b = b[12 : len(b)-l.tail()]
	size := 8
	switch {
	case l.incompat&logCsumV3 != 0:
		size = 16
	case l.incompat&logCsumV2 != 0 && l.incompat&log64bit != 0:
		size = 14
	case l.incompat&logCsumV2 != 0:
		size = 10
	case l.incompat&log64bit != 0:
		size = 12
	}
	for len(b) >= size {
		t := logged{block: uint64(be.Uint32(b))}
		var flags uint32
		if l.incompat&logCsumV3 != 0 {
			flags, t.sum = be.Uint32(b[4:]), be.Uint32(b[12:])
		} else {
			flags, t.sum = uint32(be.Uint16(b[6:])), uint32(be.Uint16(b[4:]))
		}
		if l.incompat&log64bit != 0 {
			t.block |= uint64(be.Uint32(b[8:])) << 32
		}
		t.escaped = flags&tagEscaped != 0
		f(t)
		if flags&tagLast != 0 {
			return true
		}
		b = b[size:]
		if flags&tagSameUUID == 0 {
			if len(b) < 16 {
				return false
			}
			b = b[16:]
		}
	}
	return true
}

// revokes calls f for each block that a revocation block names. It gives false
// if they do not fit in.
func (l *logInfo) revokes(b []byte, f func(block uint64)) bool {
	n := be.Uint32(b[12:])
	if n < 16 || uint64(n) > uint64(len(b)-l.tail()) {
		return false
	}
	for b = b[16:n]; ; {
		switch {
		case l.incompat&log64bit != 0 && len(b) >= 8:
			f(be.Uint64(b))
			b = b[8:]
		case l.incompat&log64bit == 0 && len(b) >= 4:
			f(uint64(be.Uint32(b)))
			b = b[4:]
		default:
			return true
		}
	}
}

// after reports that transaction a is younger than b; numbers wrap around.
func after(a, b uint32) bool { return int32(a-b) > 0 }
