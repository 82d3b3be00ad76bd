package ext

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// maxReplay bounds the blocks that a journal writes, and those that it revokes.
const maxReplay = 1 << 20

// replay finds out what the journal of a file system that was in use has to say.
// f shows the file system as it is without it.
func (f *FS) replay() (overlay, error) {
	if f.sb.journal == 0 {
		return overlay{}, fsread.Unsupported(layer, "work in a separate journal device")
	}
	n, err := f.inode(f.sb.journal)
	if err != nil {
		return overlay{}, err
	}
	if n.kind() != fsread.Regular || n.flags&(flagInline|flagEncrypt) != 0 {
		return overlay{}, fsread.Corrupt(layer, "inode %d, the journal, is no file", n.num)
	}
	r := replayer{disk: f.disk, file: f.mapping(n), buf: make([]byte, f.sb.blockSize), revoked: map[uint64]uint32{}}
	if _, err := r.read(0); err != nil {
		return overlay{}, err
	}
	if r.log, err = parseLog(r.buf, f.sb.blockSize, uint64(n.size)/uint64(f.sb.blockSize)); err != nil {
		return overlay{}, err
	}
	if r.log.start == 0 {
		return overlay{}, nil
	}
	if err := r.run(); err != nil {
		return overlay{}, err
	}
	if err := r.fastCommits(); err != nil {
		return overlay{}, err
	}
	return makeOverlay(r.done, r.revoked, r.log), nil
}

// replayer walks through the log once.
type replayer struct {
	disk *disk
	file mapper
	log  logInfo
	last run    // of the file, that was used
	buf  []byte // the block that was read last

	tid     uint32 // the transaction that is read
	suspect string // its block whose checksum is wrong: old, or damaged
	open    []logged
	revokes []uint64
	sum     uint32 // of its blocks, for a checksum of the first kind
	time    uint64 // of the last commit

	done    []logged
	revoked map[uint64]uint32 // by block, the last transaction that revoked it
}

// read reads a block of the journal and says where it is.
func (r *replayer) read(n uint32) (at uint64, err error) {
	if at, err = r.place(n); err != nil {
		return 0, err
	}
	return at, fsread.ReadFull(r.disk.img, layer, r.buf, int64(at)*r.disk.size)
}

func (r *replayer) place(n uint32) (uint64, error) {
	at := uint64(n)
	if at < r.last.first || at >= r.last.first+r.last.count {
		var err error
		if r.last, err = r.file.at(at); err != nil {
			return 0, err
		}
	}
	if r.last.at == 0 {
		return 0, fsread.Corrupt(layer, "journal: block %d is a hole", n)
	}
	return r.last.at + at - r.last.first, nil
}

// run reads transactions until one is not committed. Blocks that are left over
// from earlier rounds do not carry the number that is awaited.
func (r *replayer) run() error {
	r.tid, r.sum = r.log.tid, ^uint32(0)
	at := r.log.start
	for left := r.log.end - r.log.first; left > 0; left-- {
		if _, err := r.read(at); err != nil {
			return err
		}
		at = r.next(at)
		b := r.buf
		if be.Uint32(b) != logMagic || be.Uint32(b[8:]) != r.tid {
			return nil
		}
		switch be.Uint32(b[4:]) {
		case logDescriptor:
			var n uint32
			var err error
			if at, n, err = r.descriptor(at); err != nil {
				return err
			}
			if n >= left {
				return nil // it runs into its own tail: no commit can follow
			}
			left -= n
		case logRevoke:
			if err := r.revoke(); err != nil {
				return err
			}
		case logCommit:
			if ended, err := r.commit(); err != nil || ended {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

func (r *replayer) next(at uint32) uint32 {
	if at++; at >= r.log.end {
		return r.log.first
	}
	return at
}

// descriptor notes the n blocks that follow, from at on, and says what is behind
// them.
func (r *replayer) descriptor(at uint32) (behind, n uint32, err error) {
	if !r.log.whole(r.buf) {
		r.suspect = "a descriptor"
	}
	from := at
	if r.log.sumsAll() {
		r.sum = crc32be(r.sum, r.buf)
	}
	ok := r.log.tags(r.buf, func(l logged) {
		n++
		if err != nil {
			return
		}
		if l.in, err = r.place(at); err != nil {
			return
		}
		at = r.next(at)
		l.tid = r.tid
		r.open = append(r.open, l)
	})
	switch {
	case err != nil:
		return 0, 0, err
	case !ok:
		r.suspect = "a descriptor"
	case len(r.done)+len(r.open) > maxReplay:
		return 0, 0, fsread.Unsupported(layer, "a journal with more than %d blocks to replay", maxReplay)
	case r.log.sumsAll():
		err = r.addUp(from, n)
	}
	return at, n, err
}

// addUp reads the n blocks from at on for the checksum of their transaction.
func (r *replayer) addUp(at, n uint32) error {
	for ; n > 0; n, at = n-1, r.next(at) {
		if _, err := r.read(at); err != nil {
			return err
		}
		r.sum = crc32be(r.sum, r.buf)
	}
	return nil
}

func (r *replayer) revoke() error {
	if !r.log.whole(r.buf) {
		r.suspect = "a list of revocations"
	}
	if !r.log.revokes(r.buf, func(block uint64) { r.revokes = append(r.revokes, block) }) {
		r.suspect = "a list of revocations"
	}
	if len(r.revoked)+len(r.revokes) > maxReplay {
		return fsread.Unsupported(layer, "a journal with more than %d revocations", maxReplay)
	}
	return nil
}

// commit ends a transaction. One that is damaged is the end of the log if it is
// older than the one before: it was left over.
func (r *replayer) commit() (ended bool, err error) {
	when := be.Uint64(r.buf[0x30:])
	if r.suspect == "" && !r.log.commits(r.buf, r.sum) {
		if r.log.incompat&logAsync != 0 {
			return true, nil // it was written before what it commits
		}
		r.suspect = "the commit"
	}
	if r.suspect != "" {
		if when < r.time {
			return true, nil
		}
		return false, fsread.Corrupt(layer, "journal: %s of transaction %d is damaged", r.suspect, r.tid)
	}
	for _, block := range r.revokes {
		r.revoked[block] = r.tid
	}
	for _, l := range r.open {
		// The file system may have grown since its superblock was written.
		if end := uint64(r.disk.img.Size() / r.disk.size); l.block >= end {
			return false, fsread.Corrupt(layer, "journal: transaction %d writes block %d of %d", r.tid, l.block, end)
		}
	}
	r.done = append(r.done, r.open...)
	r.open, r.revokes, r.time, r.sum = r.open[:0], r.revokes[:0], when, ^uint32(0)
	r.tid++
	return false, nil
}

// fastCommits refuses a journal in which changes wait behind the last commit.
func (r *replayer) fastCommits() error {
	if r.log.incompat&logFastCommits == 0 {
		return nil
	}
	if _, err := r.read(r.log.end + 1); err != nil {
		return err
	}
	const head, size = 9, 8 // the record that fast commits begin with: features, transaction
	if le.Uint16(r.buf) == head && le.Uint16(r.buf[2:]) == size && le.Uint32(r.buf[8:]) == r.tid {
		return fsread.Unsupported(layer, "fast commits in the journal")
	}
	return nil
}

func (o *overlay) notice() string {
	if len(o.blocks) == 0 {
		return "the file system was in use; its journal holds nothing that was not written"
	}
	return fmt.Sprintf("the file system was in use; %d blocks come from its journal", len(o.blocks))
}
