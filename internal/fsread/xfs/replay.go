package xfs

import (
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// Items of transactions. The numbers in them have the order of the machine that
// wrote them, little-endian here, but for the copies of what lies on the disk.
const (
	itemInode  = 0x123b
	itemBuffer = 0x123c
	itemCreate = 0x123f

	itemMapIntent, itemMapDone           = 0x1244, 0x1245
	itemAttrIntent, itemAttrDone         = 0x1246, 0x1247
	itemExchangeIntent, itemExchangeDone = 0x1248, 0x1249

	transMagic  = 0x5452414e
	transHeader = 16

	bufferInodes = 1 << 0 // only the lists of unlinked inodes, which nobody sees
	bufferCancel = 1 << 1 // freed: older copies must not be written
	bufferQuota  = 1<<2 | 1<<3 | 1<<4
	bufferChunk  = 128 // bytes that a bit of the map stands for

	maxPending = 64 << 20 // bytes of transactions without an end
)

// item is one part of a transaction, in the regions that it was logged in.
type item struct {
	total   int
	regions [][]byte
}

func (i *item) kind() uint16 { return le.Uint16(i.regions[0]) }

// transaction is what was seen of one.
type transaction struct {
	header []byte
	items  []*item
}

// player applies transactions.
type player struct {
	fs       *FS
	first    bool // pass: only collect what was freed
	open     map[uint32]*transaction
	pending  int
	freed    map[freed]int
	intents  map[intent]bool
	replayed int
}

type freed struct {
	block int64
	size  uint16
}

type intent struct {
	kind uint16
	id   uint64
}

// replay applies all records up to last: once to see which buffers were freed,
// then for good.
func (r *ring) replay(last *logRecord) error {
	f := r.fs
	f.newer = overlay{}
	p := &player{fs: f, first: true, freed: map[freed]int{}, intents: map[intent]bool{}}
	for range 2 {
		p.open, p.pending = map[uint32]*transaction{}, 0
		if err := r.each(last, p.record); err != nil {
			return err
		}
		p.first = false
	}
	for i := range p.intents {
		return fsread.Unsupported(layer, "a log with an operation (%#x) that is to be finished", i.kind)
	}
	f.about.Notices = append(f.about.Notices, fmt.Sprintf("was not unmounted; %d transactions of its log are applied", p.replayed))
	return nil
}

// record takes the operations of one record.
func (p *player) record(l *logRecord) error {
	b := l.data
	for n := uint32(0); n < l.ops; n++ {
		if len(b) < 12 || int64(be.Uint32(b[4:])) > int64(len(b)-12) {
			return fsread.Corrupt(layer, "the record at sector %d of the log has an operation that does not fit", l.block)
		}
		id, flags, data := be.Uint32(b), b[9], b[12:12+be.Uint32(b[4:])]
		b = b[12+len(data):]
		if err := p.operation(id, flags, data); err != nil {
			return err
		}
	}
	return nil
}

func (p *player) operation(id uint32, flags byte, data []byte) error {
	if flags&opUnmount != 0 {
		return nil
	}
	t := p.open[id]
	switch {
	case flags&opStart != 0:
		p.open[id] = &transaction{}
		return nil
	case t == nil: // it began before the tail, so it was written
		return nil
	case flags&opCommit != 0:
		delete(p.open, id)
		return p.commit(t)
	}
	if p.pending += len(data); p.pending > maxPending {
		return fsread.Unsupported(layer, "transactions of more than %d bytes in the log", maxPending)
	}
	return t.add(data, flags&opContinued != 0)
}

// add adds a region, or, continued, more of the one before.
func (t *transaction) add(data []byte, continued bool) error {
	bad := fsread.Corrupt(layer, "a transaction of the log is not in order")
	if len(data) == 0 {
		return nil
	}
	if len(t.header) < transHeader {
		t.header = append(t.header, data...)
		if len(t.header) > transHeader || len(t.header) >= 4 && le.Uint32(t.header) != transMagic {
			return bad
		}
		return nil
	}
	var last *item
	if len(t.items) > 0 {
		last = t.items[len(t.items)-1]
	}
	if continued {
		if last == nil || len(last.regions) == 0 {
			return bad
		}
		r := &last.regions[len(last.regions)-1]
		*r = append((*r)[:len(*r):len(*r)], data...)
		return nil
	}
	if last == nil || len(last.regions) == last.total {
		if len(data) < 4 || le.Uint16(data[2:]) == 0 {
			return bad
		}
		last = &item{total: int(le.Uint16(data[2:]))}
		t.items = append(t.items, last)
	}
	last.regions = append(last.regions, data)
	return nil
}

// commit applies a whole transaction: new inodes and buffers first, then inodes,
// which are written into the former.
func (p *player) commit(t *transaction) error {
	for _, i := range t.items {
		if len(i.regions) != i.total || len(i.regions[0]) < 8 {
			return fsread.Corrupt(layer, "a transaction of the log has an item with %d regions of %d", len(i.regions), i.total)
		}
		for _, r := range i.regions {
			p.pending -= len(r)
		}
	}
	if !p.first {
		p.replayed++
	}
	for _, pass := range []func(*item) error{p.create, p.buffer, p.inode, p.cancel, p.intent} {
		for _, i := range t.items {
			if err := pass(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// bufferOf is the place of a buffer, in sectors, and its length.
func bufferOf(i *item) (freed, error) {
	b := i.regions[0]
	if len(b) < 20 || int64(le.Uint32(b[16:])) > int64(len(b)-20)/4 {
		return freed{}, fsread.Corrupt(layer, "the log has a buffer of %d bytes", len(b))
	}
	return freed{block: int64(le.Uint64(b[8:])), size: le.Uint16(b[6:])}, nil
}

// cancel keeps, in the first pass, which buffers are freed later, and forgets it in
// the second one.
func (p *player) cancel(i *item) error {
	if i.kind() != itemBuffer || le.Uint16(i.regions[0][4:])&bufferCancel == 0 {
		return nil
	}
	k, err := bufferOf(i)
	if err != nil {
		return err
	}
	if p.first {
		p.freed[k]++
	} else if p.freed[k]--; p.freed[k] <= 0 {
		delete(p.freed, k)
	}
	return nil
}

// buffer writes the changed parts of a buffer.
func (p *player) buffer(i *item) error {
	if i.kind() != itemBuffer || p.first {
		return nil
	}
	k, err := bufferOf(i)
	if err != nil {
		return err
	}
	flags := le.Uint16(i.regions[0][4:])
	if flags&(bufferCancel|bufferInodes|bufferQuota) != 0 || p.freed[k] > 0 {
		return nil
	}
	if k.block < 0 || k.block > p.fs.about.Size/sector {
		return fsread.Corrupt(layer, "the log has a buffer at sector %d", k.block)
	}
	words := i.regions[0][20:]
	set := func(bit int) bool {
		return bit < int(le.Uint32(i.regions[0][16:]))*32 && le.Uint32(words[bit/32*4:])>>(bit%32)&1 != 0
	}
	bit := 0
	for _, r := range i.regions[1:] {
		for ; !set(bit); bit++ {
			if bit >= int(k.size)*sector/bufferChunk {
				return fsread.Corrupt(layer, "the log has more data than the map of a buffer")
			}
		}
		n := 0
		for set(bit+n) && (n+1)*bufferChunk <= len(r) {
			n++
		}
		if n == 0 || (bit+n)*bufferChunk > int(k.size)*sector {
			return fsread.Corrupt(layer, "the log has a part of a buffer with %d bytes", len(r))
		}
		if err := p.fs.write(r[:n*bufferChunk], k.block*sector+int64(bit)*bufferChunk); err != nil {
			return err
		}
		bit += n
	}
	return nil
}

// create makes the inodes of a new chunk.
func (p *player) create(i *item) error {
	if i.kind() != itemCreate || p.first {
		return nil
	}
	b, f := i.regions[0], p.fs
	if len(b) < 28 {
		return fsread.Corrupt(layer, "the log has new inodes in %d bytes", len(b))
	}
	group, block, size, length := uint64(be.Uint32(b[4:])), uint64(be.Uint32(b[8:])), int64(be.Uint32(b[16:])), uint64(be.Uint32(b[20:]))
	if size != f.inode || length > 1<<10 || length<<f.perLog > 1<<10 {
		return fsread.Corrupt(layer, "the log has new inodes of %d bytes in %d blocks", size, length)
	}
	for n := block; n < block+length; n++ {
		at, err := f.at(group<<f.groupLog | n)
		if err != nil {
			return err
		}
		if p.gone(at) {
			return nil // the chunk is freed again
		}
		for k := range uint64(1) << f.perLog {
			raw := make([]byte, f.inode)
			copy(raw, "IN")
			raw[4], raw[5] = 3, formatExtents
			be.PutUint64(raw[152:], group<<(f.groupLog+f.perLog)|n<<f.perLog|k)
			seal(raw)
			if err := f.write(raw, at+int64(k)*f.inode); err != nil {
				return err
			}
		}
	}
	return nil
}

// gone reports whether a buffer that begins at a place is freed later.
func (p *player) gone(at int64) bool {
	for k := range p.freed {
		if k.block <= at/sector && at/sector < k.block+int64(k.size) {
			return true
		}
	}
	return false
}

// intent keeps what was begun and is not finished, where it changes what is seen.
func (p *player) intent(i *item) error {
	k := i.kind()
	switch k {
	case itemMapIntent, itemAttrIntent, itemExchangeIntent:
	case itemMapDone, itemAttrDone, itemExchangeDone:
		k--
	default:
		return nil
	}
	if len(i.regions[0]) < 16 {
		return fsread.Corrupt(layer, "the log has an intent of %d bytes", len(i.regions[0]))
	}
	id := intent{kind: k, id: le.Uint64(i.regions[0][8:])}
	if p.first {
		return nil
	}
	if k == i.kind() {
		p.intents[id] = true
	} else {
		delete(p.intents, id)
	}
	return nil
}
