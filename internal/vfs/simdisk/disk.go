// Package simdisk is a disk in memory that can lose its power.
//
// It keeps two states: what callers see, and what is surely on the platters,
// with a journal of the directory changes and a set of the files that differ
// between the two. Crash makes a new disk out of the second state and a random
// part of the difference. All states share their content, so that a crash costs
// about as much as the changes since the last sync and nothing for the rest.
//
// # What a crash does
//
//   - What File.Sync, SyncDir or SyncFS covered is there.
//   - Each other change of a directory (create, mkdir, rename, remove) is there
//     or not, in any combination, except that a change is never there without
//     the earlier changes of the same names. A rename is atomic: what it moves
//     has the old or the new name, even if it moves into a new directory.
//   - A file whose name survived in a directory that did not is gone.
//   - Each 512-byte sector written since the last sync of its file has the new
//     content, an older one (zeros where there was none), or rarely garbage. The
//     length is the old one, the new one or in between.
//   - Access and modification times are the old or the new ones.
//   - All locks are gone.
//
// One crash in several is of an extreme kind (see [Mode]) because bugs live there.
// A crash depends only on the state and the random source.
//
// # Several processes
//
// The disk itself acts as one process; [Disk.Process] makes more. They share the
// disk and have their own locks and open files, which vanish with
// [Process.Kill] while what they wrote stays.
package simdisk

import (
	"errors"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// ErrPowerCut is wrapped by everything after StopAfter's limit.
var ErrPowerCut = errors.New("simulated power cut")

// ErrKilled is wrapped by everything a killed process does.
var ErrKilled = errors.New("simulated process was killed")

const rootIno = 1

// Options describe a new disk. The zero value is a good one.
type Options struct {
	Start    time.Time // what the clock shows first; by default a moment in 2026
	Capacity int64     // bytes; 0: no limit. Counted in pages of 4096 and 512 per name.
}

// Disk is a simulated disk and the machine it is in.
type Disk struct {
	*first // what a disk does as a file system, its first process does

	mu       sync.Mutex
	live     tree
	durable  tree
	next     uint64              // highest inode number
	seq      uint64              // of the last journal entry
	pending  []*op               // not durable yet, in order
	last     map[key]uint64      // latest pending operation on a name
	dirty    map[uint64]struct{} // nodes whose content or times differ
	opens    map[uint64]int      // open files by inode
	orphans  map[uint64]orphan   // without a name
	locks    []*lock
	now      int64 // nanoseconds since 1970
	ops      int
	stopAt   int // -1: never
	capacity int64
	used     int64
}

// New makes an empty disk.
func New(o Options) *Disk {
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	}
	d := &Disk{live: newTree(), durable: newTree(), now: o.Start.UnixNano(), capacity: o.Capacity}
	d.power()
	d.newNode(dirMode(0o755))
	return d
}

// first keeps the name Process free for the method.
type first = Process

// power sets up what a machine has right after it starts.
func (d *Disk) power() {
	d.last = map[key]uint64{}
	d.dirty = map[uint64]struct{}{}
	d.opens = map[uint64]int{}
	d.orphans = map[uint64]orphan{}
	d.stopAt = -1
	d.first = &Process{d: d}
}

// Ops counts the calls so far that change something or make it durable. The
// power can be cut before each of them.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// StopAfter lets n more such calls through; then the power is gone and every
// call fails with ErrPowerCut. A negative n takes the limit away.
func (d *Disk) StopAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopAt = -1
	if n >= 0 {
		d.stopAt = d.ops + n
	}
}

// Advance moves the clock.
func (d *Disk) Advance(dt time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now += int64(dt)
}

// Clone copies the disk with its unsynced changes, its clock and its counters,
// without processes, locks, open files and the limit of StopAfter.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &Disk{
		live: d.live.fork(), durable: d.durable.fork(), next: d.next, seq: d.seq,
		now: d.now, ops: d.ops, capacity: d.capacity, used: d.used,
	}
	c.power()
	c.pending = append(c.pending, d.pending...)
	for k, seq := range d.last {
		c.last[k] = seq
	}
	for ino := range d.dirty {
		c.dirty[ino] = struct{}{}
	}
	for ino, o := range d.orphans {
		c.orphans[ino] = o
		if !o.freed {
			c.free(ino)
		}
	}
	return c
}

// orphan is a node that has lost its name. A crash may bring it back until the
// removal is durable, and until it is closed it takes space.
type orphan struct{ freed, settled bool }

// free gives back the space of an orphan that nobody has open.
func (d *Disk) free(ino uint64) {
	d.used -= d.live.get(ino).allocated() + nameCost
	d.orphaned(ino, orphan{freed: true, settled: d.orphans[ino].settled})
}

func (d *Disk) orphaned(ino uint64, o orphan) {
	d.orphans[ino] = o
	if o.freed && o.settled {
		delete(d.orphans, ino)
		delete(d.dirty, ino)
		d.live.drop(ino)
	}
}

// enter begins every call; the caller unlocks d.mu. changing calls count.
func (p *Process) enter(changing bool) error {
	d := p.d
	d.mu.Lock()
	switch {
	case p.killed:
		return ErrKilled
	case d.stopAt >= 0 && d.ops >= d.stopAt:
		return ErrPowerCut
	}
	if changing {
		d.ops++
	}
	return nil
}

var (
	_ vfs.FS = (*Disk)(nil)
	_ vfs.FS = (*Process)(nil)
)
