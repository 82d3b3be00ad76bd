package qcow2target

import (
	"container/list"
	"encoding/binary"

	format "github.com/holdfast-backup/holdfast/internal/format/qcow2"
)

// cacheBytes is what L2 tables take in memory, at least two of them. With
// clusters of 64 KiB it maps 64 GiB of disk.
const cacheBytes = 8 << 20

// tables are the two levels of the mapping. Image.mu guards them.
type tables struct {
	i     *Image
	l1    []int64 // offsets of L2 tables, 0: none
	most  int     // L2 tables in memory
	byNum map[int64]*list.Element
	order list.List // of *l2, last used first
}

// l2 is the num-th L2 table.
type l2 struct {
	num   int64
	b     []byte
	dirty bool
}

func newTables(i *Image) tables {
	return tables{
		i: i, l1: make([]int64, i.h.L1Entries), byNum: map[int64]*list.Element{},
		most: int(max(2, cacheBytes/i.h.Cluster())),
	}
}

// exists reports whether anything was mapped that the num-th L2 table maps.
func (t *tables) exists(num int64) bool { return t.l1[num] != 0 }

// get reads the entry of a cluster of the disk.
func (t *tables) get(index int64) (format.Entry, error) {
	num, n := index/t.i.h.L2Entries(), index%t.i.h.L2Entries()
	if !t.exists(num) {
		return format.Entry{}, nil
	}
	l, err := t.load(num)
	if err != nil {
		return format.Entry{}, err
	}
	return format.ParseEntry(binary.BigEndian.Uint64(l.b[n*8:])), nil
}

// set changes the entry of a cluster of the disk.
func (t *tables) set(index int64, entry uint64) error {
	num, n := index/t.i.h.L2Entries(), index%t.i.h.L2Entries()
	l, err := t.load(num)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint64(l.b[n*8:], entry)
	l.dirty = true
	return nil
}

// load returns a table, a new one where there is none.
func (t *tables) load(num int64) (*l2, error) {
	if e, ok := t.byNum[num]; ok {
		t.order.MoveToFront(e)
		return e.Value.(*l2), nil
	}
	for t.order.Len() >= t.most {
		e := t.order.Back()
		if err := t.write(e.Value.(*l2)); err != nil {
			return nil, err
		}
		delete(t.byNum, t.order.Remove(e).(*l2).num)
	}
	l := &l2{num: num, b: make([]byte, t.i.h.Cluster())}
	if t.exists(num) {
		if n, err := t.i.f.ReadAt(l.b, t.l1[num]); n < len(l.b) {
			return nil, err
		}
	} else {
		host, err := t.i.allocate(1, 1)
		if err != nil {
			return nil, err
		}
		t.l1[num] = host
		l.dirty = true
	}
	t.byNum[num] = t.order.PushFront(l)
	return l, nil
}

func (t *tables) write(l *l2) error {
	if !l.dirty {
		return nil
	}
	if _, err := t.i.f.WriteAt(l.b, t.l1[l.num]); err != nil {
		return err
	}
	l.dirty = false
	return nil
}

// flush writes what the file does not have yet.
func (t *tables) flush() error {
	for e := t.order.Front(); e != nil; e = e.Next() {
		if err := t.write(e.Value.(*l2)); err != nil {
			return err
		}
	}
	return nil
}

func (i *Image) writeL1() error {
	b := make([]byte, 0, i.up(i.h.L1Entries*format.L1EntrySize))
	for _, off := range i.tables.l1 {
		if off == 0 {
			b = binary.BigEndian.AppendUint64(b, 0)
			continue
		}
		b = binary.BigEndian.AppendUint64(b, format.TableEntry(off))
	}
	_, err := i.f.WriteAt(b[:cap(b)], i.h.L1Offset) // to the end of the cluster
	return err
}
