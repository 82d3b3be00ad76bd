// Package retention decides which snapshots of a group a pruning keeps. It only
// decides: it opens nothing and deletes nothing.
//
// # Rules
//
// Snapshots are looked at from the newest to the oldest.
//
// An unfinished snapshot is kept if it is the very newest, for it may be a
// backup that is running; every other unfinished one is removed.
//
// Then the options are applied one after another: last, hourly, daily, weekly,
// monthly, yearly. Each option keeps the newest snapshot of up to N periods
// (an hour, a day, an ISO week, ...; for "last" every snapshot is a period of
// its own). Periods without a snapshot do not count. In one pass
//
//   - a snapshot that has a mark is passed over;
//   - so is one whose period holds a snapshot that an earlier option keeps: it
//     uses no slot and stays open for later options;
//   - the first of a period that is new in this pass is kept; when N periods are
//     full, the pass ends there;
//   - a further one of a period of this pass is removed. That is final, later
//     options do not reconsider it.
//
// What has no mark in the end is removed. A protected snapshot is never removed,
// uses no slot, and does not make its period count as kept.
//
// Periods are those of the local time of the machine that prunes.
//
// With all options 0 every finished snapshot is removed; callers treat that as
// "no retention configured" and do not prune, see [Options.IsZero].
//
// # Source
//
// proxmox-backup: pbs-datastore/src/prune.rs, tests/prune.rs.
package retention

import (
	"cmp"
	"slices"
	"time"
)

// Options says how many periods of each kind are kept; 0 switches one off.
type Options struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int
}

// IsZero reports whether nothing is asked for, which means: keep everything.
func (o Options) IsZero() bool {
	return o.Last <= 0 && o.Hourly <= 0 && o.Daily <= 0 && o.Weekly <= 0 && o.Monthly <= 0 && o.Yearly <= 0
}

// Snapshot is what a decision needs to know of a snapshot.
type Snapshot struct {
	Time      int64 // seconds since 1970-01-01 UTC; different for each snapshot of a group
	Protected bool
	Finished  bool // it has a manifest
}

// Mark is the decision on a snapshot.
type Mark string

// The marks.
const (
	Keep        Mark = "keep"
	Remove      Mark = "remove"
	Protected   Mark = "protected"    // not removed because it must not be
	KeepPartial Mark = "keep-partial" // unfinished, but may still be running
)

// Decide returns a mark for each snapshot of one group. The snapshots may come
// in any order; the marks are in the same order.
func Decide(snaps []Snapshot, o Options, loc *time.Location) []Mark {
	if loc == nil {
		loc = time.Local
	}
	d := decision{snaps: snaps, marks: make([]Mark, len(snaps)), newestFirst: make([]int, len(snaps))}
	for i := range snaps {
		d.newestFirst[i] = i
	}
	slices.SortStableFunc(d.newestFirst, func(i, j int) int { return cmp.Compare(snaps[j].Time, snaps[i].Time) })

	d.markUnfinished()
	for _, pass := range []struct {
		keep int
		of   func(time.Time) period
	}{
		{o.Last, func(t time.Time) period { return period{int(t.Unix())} }},
		{o.Hourly, func(t time.Time) period { return period{t.Year(), t.YearDay(), t.Hour()} }},
		{o.Daily, func(t time.Time) period { return period{t.Year(), t.YearDay()} }},
		{o.Weekly, func(t time.Time) period { y, w := t.ISOWeek(); return period{y, w} }},
		{o.Monthly, func(t time.Time) period { return period{t.Year(), int(t.Month())} }},
		{o.Yearly, func(t time.Time) period { return period{t.Year()} }},
	} {
		if pass.keep > 0 {
			d.pass(pass.keep, func(s Snapshot) period { return pass.of(time.Unix(s.Time, 0).In(loc)) })
		}
	}
	for i, s := range snaps {
		switch {
		case s.Protected:
			d.marks[i] = Protected
		case d.marks[i] == "":
			d.marks[i] = Remove
		}
	}
	return d.marks
}

// period names an hour, day, ... within one pass.
type period [3]int

type decision struct {
	snaps       []Snapshot
	marks       []Mark // "" while open
	newestFirst []int  // positions in snaps
}

func (d *decision) markUnfinished() {
	for rank, i := range d.newestFirst {
		switch {
		case d.snaps[i].Finished:
		case rank == 0:
			d.marks[i] = KeepPartial
		default:
			d.marks[i] = Remove
		}
	}
}

// pass applies one option.
func (d *decision) pass(keep int, of func(Snapshot) period) {
	kept := map[period]bool{} // by options before
	for i, m := range d.marks {
		if m == Keep {
			kept[of(d.snaps[i])] = true
		}
	}
	chosen := map[period]bool{}
	for _, i := range d.newestFirst {
		s := d.snaps[i]
		if d.marks[i] != "" || s.Protected {
			continue
		}
		switch p := of(s); {
		case kept[p]:
		case chosen[p]:
			d.marks[i] = Remove
		case len(chosen) >= keep:
			return
		default:
			chosen[p] = true
			d.marks[i] = Keep
		}
	}
}
