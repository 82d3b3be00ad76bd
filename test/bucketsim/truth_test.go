package bucketsim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/simstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// truth is what all hosts together know of a repository. A snapshot is known by its
// time, which no other has: its namespace may change.
type truth struct {
	mu      sync.Mutex
	last    int64                  // the time given out last
	fresh   int                    // the chunk given out last that nobody else has
	tried   map[int64]content      // that somebody wanted to back up
	group   map[int64]names.Group  // of those
	made    map[int64]bool         // acknowledged
	removed map[int64]bool         // acknowledged
	aimed   map[int64]int          // how many may remove it, or may have done so
	at      map[names.Group][]*aim // who may remove anything of a group
	wrong   []error                // what must not happen
	count   map[string]int         // what happened, for people
}

func newTruth() *truth {
	return &truth{
		last: 946684800, fresh: shared,
		tried: map[int64]content{}, group: map[int64]names.Group{}, made: map[int64]bool{},
		removed: map[int64]bool{}, aimed: map[int64]int{}, at: map[names.Group][]*aim{}, count: map[string]int{},
	}
}

func (t *truth) note(f func()) { t.mu.Lock(); defer t.mu.Unlock(); f() }

// aim is a removal on its way.
type aim struct {
	t     *truth
	group names.Group
	all   []int64 // what it may reach
}

// began gives a new snapshot of a group its time.
func (t *truth) began(g names.Group) (at int64) {
	t.note(func() {
		t.last += 3600
		at = t.last
		t.group[at] = g
		for _, a := range t.at[g] {
			a.add(at)
		}
	})
	return at
}

func (a *aim) add(at int64) {
	a.all = append(a.all, at)
	a.t.aimed[at]++
}

// remove begins a removal of one snapshot, or of any of a group.
func (t *truth) remove(g names.Group, one int64) *aim {
	a := &aim{t: t, group: g}
	t.note(func() {
		if one != 0 {
			a.add(one)
			return
		}
		t.at[g] = append(t.at[g], a)
		for at, of := range t.group {
			if of == g {
				a.add(at)
			}
		}
	})
	return a
}

// over says what the removal came to: known is false if nobody knows.
func (a *aim) over(known bool, removed ...int64) {
	a.t.note(func() {
		a.t.at[a.group] = slices.DeleteFunc(a.t.at[a.group], func(o *aim) bool { return o == a })
		for _, at := range removed {
			a.t.removed[at] = true
		}
		if !known {
			return
		}
		for _, at := range a.all {
			if !slices.Contains(removed, at) {
				a.t.aimed[at]--
			}
		}
	})
}

// fail notes what must not happen.
func (t *truth) fail(format string, args ...any) {
	t.note(func() { t.wrong = append(t.wrong, fmt.Errorf(format, args...)) })
}

// heard judges what became of an operation; at is the snapshot that it was about, 0: none.
func (t *truth) heard(what string, at int64, err error) {
	t.note(func() {
		if err != nil {
			t.count[what+": "+kind(err)]++
		} else {
			t.count[what]++
		}
		if err == nil || at != 0 && t.aimed[at] > 0 {
			return
		}
		_, corrupt := errors.AsType[*repo.CorruptError](err)
		vanished := errors.Is(err, repo.ErrNotFound) && t.made[at] && t.count["move begun"] == 0 // what moves is elsewhere
		if corrupt || errors.Is(err, repo.ErrChunkMissing) || errors.Is(err, errWrong) || vanished || object(err) {
			t.wrong = append(t.wrong, fmt.Errorf("%s, snapshot %d: %w", what, at, err))
		}
	})
}

// object reports whether an error is of an object that is not there, or is there already, and
// nothing more: nobody removes what a session needs that runs, and who was ended is told that.
func object(err error) bool {
	missing := errors.Is(err, objstore.ErrNotFound) && !errors.Is(err, repo.ErrNotFound)
	return (missing || errors.Is(err, objstore.ErrPrecondition)) && !unsure(err)
}

// kind is what people are told of an error.
func kind(err error) string {
	for name, kind := range map[string]error{
		"killed": simstore.ErrKilled, "unknown": ledger.ErrUnknown, "locked": repo.ErrLocked, "exists": repo.ErrExists, "not found": repo.ErrNotFound,
		"protected": repo.ErrProtected, "ended by others": catalog.ErrFenced, "removed meanwhile": catalog.ErrRemoved, "contended": ledger.ErrContended,
	} {
		if errors.Is(err, kind) {
			return name
		}
	}
	return "failed"
}

// kept are the snapshots that were acknowledged and that nobody may have removed.
func (t *truth) kept() []int64 {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(t.made)), func(at int64) bool { return t.aimed[at] > 0 })
}

// content is what was to be backed up at a time.
func (t *truth) content(at int64) (c content) {
	t.note(func() { c = t.tried[at] })
	return c
}

// groups are those that anybody backed up.
func (t *truth) groups() (list []names.Group) {
	t.note(func() {
		for _, g := range t.group {
			if !slices.Contains(list, g) {
				list = append(list, g)
			}
		}
	})
	slices.SortFunc(list, names.Group.Compare)
	return list
}
