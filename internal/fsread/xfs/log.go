package xfs

import (
	"bytes"
	"hash/crc32"
	"sort"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// The log is a ring of sectors of 512 bytes, filled with records. The first four
// bytes of each sector are the cycle in which it was written; what they were
// stands in the header of the record. Numbers of the headers are big-endian.
//
//	header      0 feedbabe | 4 cycle 4 | 8 version 4 | 12 bytes behind it 4 |
//	            16 its own place 8 | 24 place of the tail 8 | 32 checksum 4 |
//	            40 operations 4 | 44 first words of 64 sectors | 300 byte order 4 |
//	            304 UUID 16 | 320 most bytes of a record 4
//	            and one more sector of words for each further 64
//	operation   0 transaction 4 | 4 bytes 4 | 8 client 1 | 9 flags 1
//
// The head is where the cycle changes. The last whole record before it says where
// the tail is; what lies between is applied.
const (
	sector      = 512
	logMagic    = 0xfeedbabe
	headerWords = 64
	maxRecord   = 512 << 10
	scanBack    = 8 * 256 << 10 / sector // records that were being written at a time
	orderLinux  = 1

	opStart     = 0x01
	opCommit    = 0x02
	opContinued = 0x08
	opUnmount   = 0x20
)

// ring is the log.
type ring struct {
	fs   *FS
	at   int64 // byte
	size int64 // sectors
}

// logRecord is one of its records.
type logRecord struct {
	block, next  int64 // sectors: its header, what is behind it
	cycle, ops   uint32
	tail         uint64
	lsn          uint64
	header, data []byte
	good         bool // the checksum is right
}

// recover applies the log.
func (f *FS) recover() error {
	if f.logBlocks == 0 || f.logStart == 0 {
		return fsread.Unsupported(layer, "a log on another device")
	}
	at, err := f.at(f.logStart)
	if err != nil {
		return err
	}
	if f.logStart&(1<<f.groupLog-1)+f.logBlocks > f.group {
		return fsread.Corrupt(layer, "a log of %d blocks from %d on", f.logBlocks, f.logStart)
	}
	r := &ring{fs: f, at: at, size: int64(f.logBlocks) << f.blockLog / sector}
	last, err := r.last()
	if err != nil || last == nil || last.unmount() {
		return err
	}
	return r.replay(last)
}

// read reads sectors, around the end of the ring.
func (r *ring) read(p []byte, block int64) error {
	for len(p) > 0 {
		block %= r.size
		n := min(int64(len(p)), (r.size-block)*sector)
		if err := fsread.ReadFull(r.fs.img, layer, p[:n], r.at+block*sector); err != nil {
			return err
		}
		p, block = p[n:], block+n/sector
	}
	return nil
}

// cycleOf is the cycle of a sector.
func cycleOf(b []byte) uint32 {
	if w := be.Uint32(b); w != logMagic {
		return w
	}
	return be.Uint32(b[4:])
}

func (r *ring) cycle(block int64) (uint32, error) {
	var b [8]byte
	if err := fsread.ReadFull(r.fs.img, layer, b[:], r.at+block*sector); err != nil {
		return 0, err
	}
	return cycleOf(b[:]), nil
}

// head is the first sector of the older cycle, and the newer cycle; none: nothing
// was ever written.
func (r *ring) head() (block int64, cycle uint32, none bool, err error) {
	first, err := r.cycle(0)
	if err != nil || first == 0 {
		return 0, 0, true, err
	}
	last, err := r.cycle(r.size - 1)
	if err != nil {
		return 0, 0, false, err
	}
	if first == last {
		return r.size, first, false, nil
	}
	if last != first-1 {
		return 0, 0, false, fsread.Corrupt(layer, "the log begins with cycle %d and ends with cycle %d", first, last)
	}
	i := sort.Search(int(r.size), func(i int) bool {
		c, e := r.cycle(int64(i))
		if e != nil {
			err = e
		}
		return c != first
	})
	return int64(i), first, false, err
}

// last finds the last whole record, nil if there is none. Records are written
// several at a time: before the head there may be sectors of the older cycle, and
// all behind the first of them was never acknowledged.
func (r *ring) last() (*logRecord, error) {
	head, cycle, none, err := r.head()
	if err != nil || none {
		return nil, err
	}
	n := min(int64(scanBack), r.size)
	b := make([]byte, n*sector)
	start := ((head-n)%r.size + r.size) % r.size
	if err := r.read(b, start); err != nil {
		return nil, err
	}
	expected := func(i int64) uint32 { // of the sector i of b
		if start+i < r.size && head < n && head != r.size {
			return cycle - 1
		}
		return cycle
	}
	end := n
	for i := range n {
		if cycleOf(b[i*sector:]) != expected(i) {
			end = i
			break
		}
	}
	for i := end - 1; i >= 0; i-- {
		if be.Uint32(b[i*sector:]) != logMagic {
			continue
		}
		rec, err := r.record((start + i) % r.size)
		if err != nil {
			return nil, err
		}
		if rec == nil || !rec.good || i+rec.length(r) > end {
			end = i
			continue
		}
		return rec, nil
	}
	if start == head%r.size || cycle == 1 && head <= n {
		return nil, nil // the whole log was looked at
	}
	return nil, fsread.Corrupt(layer, "the log has no whole record before its head at sector %d", head)
}

// length is how many sectors the record takes.
func (l *logRecord) length(r *ring) int64 { return ((l.next-l.block)%r.size + r.size) % r.size }

// record reads the record whose header is at block; nil: there is none.
func (r *ring) record(block int64) (*logRecord, error) {
	h := make([]byte, sector)
	if err := r.read(h, block); err != nil {
		return nil, err
	}
	if be.Uint32(h) != logMagic {
		return nil, nil
	}
	size, most, version := int64(be.Uint32(h[12:])), int64(be.Uint32(h[320:])), be.Uint32(h[8:])
	if size > maxRecord || most > maxRecord || version < 1 || version > 2 {
		return nil, nil
	}
	headers := int64(1)
	if version == 2 && most > headerWords*sector {
		headers = (most + headerWords*sector - 1) / (headerWords * sector)
	}
	sectors := (size + sector - 1) / sector
	if sectors > headers*headerWords || headers+sectors >= r.size {
		return nil, nil
	}
	if order := be.Uint32(h[300:]); order != orderLinux {
		return nil, fsread.Unsupported(layer, "a log in the byte order %d of another machine", order)
	}
	l := &logRecord{
		block: block, next: (block + headers + sectors) % r.size, cycle: be.Uint32(h[4:]), ops: be.Uint32(h[40:]),
		lsn: be.Uint64(h[16:]), tail: be.Uint64(h[24:]),
		header: make([]byte, headers*sector), data: make([]byte, sectors*sector),
	}
	if err := r.read(l.header, block); err != nil {
		return nil, err
	}
	if err := r.read(l.data, block+headers); err != nil {
		return nil, err
	}
	l.good = l.checksum(size, version)
	for i := range sectors { // put back the first words
		words := l.header[44:]
		if i >= headerWords {
			words = l.header[i/headerWords*sector+4:]
		}
		copy(l.data[i*sector:i*sector+4], words[i%headerWords*4:])
	}
	l.data = l.data[:size]
	return l, nil
}

// checksum checks the record as it lies on the disk. The length of a header
// differs between machines of 32 and 64 bits.
func (l *logRecord) checksum(size int64, version uint32) bool {
	want := le.Uint32(l.header[32:])
	if want == 0 {
		return true // written before there were checksums
	}
	for _, length := range []int{328, 324} {
		sum := crc32.Update(0, castagnoli, l.header[:32])
		sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
		sum = crc32.Update(sum, castagnoli, l.header[36:length])
		if version == 2 {
			for at := sector; at < len(l.header); at += sector {
				sum = crc32.Update(sum, castagnoli, l.header[at:at+4+4*headerWords])
			}
		}
		if crc32.Update(sum, castagnoli, l.data[:size]) == want {
			return true
		}
	}
	return false
}

// unmount reports whether the record says that the file system was unmounted.
func (l *logRecord) unmount() bool {
	return l.ops == 1 && len(l.data) >= 12 && l.data[9]&opUnmount != 0
}

// each calls do with the records from the tail to last.
func (r *ring) each(last *logRecord, do func(*logRecord) error) error {
	block, cycle := int64(last.tail&0xffffffff), uint32(last.tail>>32)
	if block >= r.size || cycle != last.cycle && (cycle != last.cycle-1 || block < last.block) {
		return fsread.Corrupt(layer, "the tail of the log is at sector %d of cycle %d, its head at sector %d of cycle %d", block, cycle, last.block, last.cycle)
	}
	for sum := int64(0); sum < r.size; {
		rec, err := r.record(block)
		if err != nil {
			return err
		}
		if rec == nil || rec.cycle != cycle || !rec.good && r.fs.v5 || !bytes.Equal(rec.header[304:320], last.header[304:320]) {
			return fsread.Corrupt(layer, "the log has no whole record at sector %d", block)
		}
		if err := do(rec); err != nil || rec.block == last.block {
			return err
		}
		sum += rec.length(r)
		if rec.next < rec.block {
			cycle++
		}
		block = rec.next
	}
	return fsread.Corrupt(layer, "the log has no end")
}
