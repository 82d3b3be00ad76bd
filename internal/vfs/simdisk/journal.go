package simdisk

import (
	"io/fs"
	"slices"
	"strings"
)

// op is one change of directory entries that may not be durable yet. It never
// changes once made, so that clones share it.
type op struct {
	seq      uint64
	ino      uint64 // what is created, moved or removed
	from, to key    // a name that goes away, a name that appears; dir 0: none
	old      uint64 // what a rename replaced
	dir      bool   // ino is a directory
	time     int64
	deps     []uint64 // operations that survive if this one does
}

// key is one name in one directory. With an empty name it stands for the
// creation of the directory itself.
type key struct {
	dir  uint64
	name string
}

func (o *op) touches(dir uint64) bool { return o.from.dir == dir || o.to.dir == dir }

// gone is what loses its last name, or 0.
func (o *op) gone() uint64 {
	if o.to.dir == 0 {
		return o.ino
	}
	return o.old
}

// apply makes the change in a tree.
func (o *op) apply(t *tree) {
	if d := t.edit(o.from.dir); d != nil {
		d.unlink(o.from.name)
		d.mtime = o.time
	}
	t.drop(o.gone())
	if d := t.edit(o.to.dir); d != nil {
		d.link(o.to.name, o.ino)
		d.mtime = o.time
	}
}

// record appends an operation to the journal. It is called before the change
// is made in the live tree.
func (d *Disk) record(o *op) {
	d.seq++
	o.seq = d.seq
	o.time = d.now
	for _, k := range []key{o.from, o.to} {
		if k.dir == 0 {
			continue
		}
		if seq, ok := d.last[k]; ok {
			o.deps = append(o.deps, seq)
		}
		d.last[k] = o.seq
	}
	moved := o.from.dir != 0 && o.to.dir != 0
	if o.from.dir == 0 && o.dir {
		d.last[key{dir: o.ino}] = o.seq
	}
	gone := d.live.get(o.gone())
	emptied := gone != nil && gone.mode.IsDir()
	for _, p := range d.pending {
		if !emptied && !(moved && o.dir) {
			break
		}
		if emptied && p.touches(gone.ino) || // what left a directory left before it went
			moved && o.dir && p.dir && p.from.dir != 0 && p.to.dir != 0 { // moves of directories never make a loop
			o.deps = append(o.deps, p.seq)
		}
	}
	d.pending = append(d.pending, o)
}

// makings lists the pending operations that made the directories on the way to
// a name: a rename is atomic, so that what moves into a new directory is never
// lost with it.
func (d *Disk) makings(name string) []uint64 {
	if len(d.pending) == 0 {
		return nil
	}
	var seqs []uint64
	n := d.live.get(rootIno)
	for part, rest, more := strings.Cut(name, "/"); more; part, rest, more = strings.Cut(rest, "/") {
		ino, _ := n.lookup(part)
		if seq, ok := d.last[key{dir: ino}]; ok {
			seqs = append(seqs, seq)
		}
		n = d.live.get(ino)
	}
	return seqs
}

// settle makes the entries of one directory durable.
func (d *Disk) settle(dir uint64) {
	if !slices.ContainsFunc(d.pending, func(o *op) bool { return o.touches(dir) }) {
		return
	}
	need := map[uint64]bool{}
	for i := len(d.pending) - 1; i >= 0; i-- {
		o := d.pending[i]
		if o.touches(dir) || need[o.seq] {
			need[o.seq] = true
			for _, dep := range o.deps {
				need[dep] = true
			}
		}
	}
	rest := d.pending[:0:0]
	for _, o := range d.pending {
		if need[o.seq] {
			d.settleOp(o)
		} else {
			rest = append(rest, o)
		}
	}
	d.pending = rest
	if len(rest) == 0 {
		clear(d.last)
	}
}

func (d *Disk) settleOp(o *op) {
	o.apply(&d.durable)
	if left, ok := d.orphans[o.gone()]; ok {
		left.settled = true
		d.orphaned(o.gone(), left)
	}
}

// settleAll makes everything durable.
func (d *Disk) settleAll() {
	for _, o := range d.pending {
		d.settleOp(o)
	}
	d.pending = nil
	clear(d.last)
	for ino := range d.dirty {
		d.settleData(ino)
	}
}

// settleData makes content, length and times of one node durable.
func (d *Disk) settleData(ino uint64) {
	delete(d.dirty, ino)
	live, safe := d.live.edit(ino), d.durable.edit(ino)
	if live == nil || safe == nil {
		return
	}
	safe.atime, safe.mtime = live.atime, live.mtime
	if live.mode.IsRegular() {
		safe.take(live)
	}
}

// newNode makes an unnamed node in both trees.
func (d *Disk) newNode(mode fs.FileMode) uint64 {
	d.next++
	for _, t := range []*tree{&d.live, &d.durable} {
		t.put(d.next, &node{own: t.own, ino: d.next, mode: mode, atime: d.now, mtime: d.now})
	}
	return d.next
}
