package datastore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// world is a disk and what is known of it.
type world struct {
	disk *simdisk.Disk
	// must is what was acknowledged, and restores bit-exactly as long as it is
	// not being removed. may is what an interrupted operation was making or
	// removing: it is there in full or not at all.
	must, may map[names.Snapshot]content
	// careless is what another program was removing: parts of it may be gone
	// while it is still listed, but no chunk that its index names.
	careless map[names.Snapshot]bool
	// moves says where a snapshot of must is being moved: it is in one of the two
	// places.
	moves map[names.Snapshot]names.Snapshot
	// mustLog and mayLog are the same for the logs of snapshots that are there.
	mustLog, mayLog map[names.Snapshot]string
}

func newWorld(d *simdisk.Disk) *world {
	return &world{
		d,
		map[names.Snapshot]content{},
		map[names.Snapshot]content{},
		map[names.Snapshot]bool{},
		map[names.Snapshot]names.Snapshot{},
		map[names.Snapshot]string{},
		map[names.Snapshot]string{},
	}
}

func (w *world) clone() *world {
	return &world{
		w.disk.Clone(), maps.Clone(w.must), maps.Clone(w.may), maps.Clone(w.careless), maps.Clone(w.moves),
		maps.Clone(w.mustLog), maps.Clone(w.mayLog),
	}
}

// found is what a check saw of a snapshot.
type found struct {
	log string // "" for none
}

// settle turns what survived of the interrupted operation into facts.
func (w *world) settle(present map[names.Snapshot]found) {
	for n, c := range w.may {
		if _, ok := present[n]; ok {
			w.must[n] = c
		}
	}
	clear(w.may)
	for n, f := range present {
		if f.log != "" {
			w.mustLog[n] = f.log
		}
	}
	clear(w.mayLog)
}

// operation is one thing that a user does. begin records in w what it may
// make or remove; the returned function does it, and records in w what is a

// doubt says that n is being removed.
func (w *world) doubt(n names.Snapshot) {
	w.may[n] = w.must[n]
	delete(w.must, n)
}

func (w *world) doubtGroup(of names.Snapshot) {
	for n := range maps.Clone(w.must) {
		if n.GroupPath() == of.GroupPath() {
			w.doubt(n)
		}
	}
}

// move says that the group of n is being moved; not if it would not be allowed to.
func (w *world) move(n names.Snapshot, to names.Namespace) bool {
	moves := map[names.Snapshot]names.Snapshot{}
	oldest, newest := int64(1<<62), int64(0)
	for o := range w.must {
		if o.Group != n.Group {
			continue
		}
		if o.NS == to {
			newest = max(newest, o.Time)
		}
		if o.NS != n.NS {
			continue
		}
		oldest = min(oldest, o.Time)
		moved := o
		moved.NS = to
		moves[o] = moved
	}
	if oldest > newest {
		maps.Copy(w.moves, moves)
	}
	return oldest > newest
}

// arrive makes facts of the moves, as far as they are done.
func (w *world) arrive(listed map[names.Snapshot]bool) error {
	for from, to := range w.moves {
		if listed[from] && listed[to] {
			return fmt.Errorf("%s is in two places", from)
		}
		if !listed[to] {
			continue
		}
		w.must[to] = w.must[from]
		delete(w.must, from)
		if text, ok := w.mustLog[from]; ok {
			w.mustLog[to] = text
			delete(w.mustLog, from)
		}
		if w.careless[from] { // what it has lost is lost there too
			w.careless[to] = true
			delete(w.careless, from)
		}
	}
	clear(w.moves)
	return nil
}

// pick returns a known snapshot, the same one for the same random numbers.
func pick(w *world, rng *rand.Rand) (names.Snapshot, bool) {
	all := slices.SortedFunc(maps.Keys(w.must), names.Snapshot.Compare)
	if len(all) == 0 {
		return names.Snapshot{}, false
	}
	return all[rng.IntN(len(all))], true
}
