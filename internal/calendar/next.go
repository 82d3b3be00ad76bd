package calendar

import "time"

// wall is what a clock shows, as seconds since 1970 of a clock that showed the same
// in UTC. So it can be reckoned with, whatever clocks do.
type wall int64

func wallOf(t time.Time) wall {
	_, off := t.Zone()
	return wall(t.Unix() + int64(off))
}

// Next returns the first time of an event that is after another, on the clock of a
// place. ok is false if there is none: the years are over, or there is no such day.
// It looks at most at every day up to 2199 once.
func (e Event) Next(after time.Time, loc *time.Location) (next time.Time, ok bool) {
	if e.utc {
		loc = time.UTC
	}
	after = after.In(loc)
	w := wallOf(after) + 1
	for {
		if w, ok = e.nextWall(w); !ok {
			return time.Time{}, false
		}
		at, ok := first(w, loc)
		switch {
		case !ok:
			w = afterGap(w, loc)
		case !at.After(after):
			w = afterOverlap(w, after)
		default:
			return at, true
		}
	}
}

// nextWall returns the first reading of a clock that fits and is w or later.
func (e Event) nextWall(w wall) (wall, bool) {
	t := time.Unix(int64(w), 0).UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	y, m, d := year, int(month), day
	for {
		ny, ok := e.year.next(y, years)
		if !ok {
			return 0, false
		}
		if ny != y {
			y, m, d = ny, 1, 1
		}
		nm, ok := e.month.next(m, months)
		if !ok {
			y, m, d = y+1, 1, 1
			continue
		}
		if nm != m {
			m, d = nm, 1
		}
		nd, ok := e.day.next(d, days)
		if !ok || nd > daysIn(y, m) {
			m, d = m+1, 1
			continue
		}
		d = nd
		if weekday := (time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC).Weekday() + 6) % 7; e.days != 0 && e.days>>weekday&1 == 0 {
			d++
			continue
		}
		if y != year || m != int(month) || d != day {
			hour, minute, second = 0, 0, 0
		}
		if h, mi, s, ok := e.nextTime(hour, minute, second); ok {
			return wall(time.Date(y, time.Month(m), d, h, mi, s, 0, time.UTC).Unix()), true
		}
		d++
	}
}

// nextTime returns the first time of a day that fits and is not before another.
func (e Event) nextTime(h, m, s int) (hour, minute, second int, ok bool) {
	for {
		nh, ok := e.hour.next(h, hours)
		if !ok {
			return 0, 0, 0, false
		}
		if nh != h {
			h, m, s = nh, 0, 0
		}
		nm, ok := e.minute.next(m, minutes)
		if !ok {
			h, m, s = h+1, 0, 0
			continue
		}
		if nm != m {
			m, s = nm, 0
		}
		if s, ok = e.second.next(s, seconds); ok {
			return h, m, s, true
		}
		m, s = m+1, 0
	}
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month+1), 0, 0, 0, 0, 0, time.UTC).Day()
}

// first returns the first moment at which a clock shows w; it may never do.
func first(w wall, loc *time.Location) (at time.Time, ok bool) {
	about := time.Unix(int64(w), 0).In(loc)
	for _, near := range around(about) {
		_, off := near.Zone()
		t := time.Unix(int64(w)-int64(off), 0).In(loc)
		if wallOf(t) == w && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

// around returns moments with the offsets that can count near t. Offsets are less
// than a day, so they are those of the zones that are in force within a day.
func around(t time.Time) []time.Time {
	const day = 26 * time.Hour
	list := []time.Time{t.Add(-day), t, t.Add(day)}
	for _, near := range list[:3] {
		if start, end := near.ZoneBounds(); true {
			if !start.IsZero() {
				list = append(list, start, start.Add(-1))
			}
			if !end.IsZero() {
				list = append(list, end)
			}
		}
	}
	return list
}

// changes yields the moments near w at which a clock was changed, with what it showed
// then by the old and by the new time.
func changes(w wall, loc *time.Location) (list []struct{ before, after wall }) {
	for _, t := range around(time.Unix(int64(w), 0).In(loc)) {
		if start, _ := t.ZoneBounds(); !start.IsZero() {
			_, off := start.Add(-1).Zone()
			list = append(list, struct{ before, after wall }{wall(start.Unix() + int64(off)), wallOf(start)})
		}
	}
	return list
}

// afterGap returns the first reading behind a gap that w is in.
func afterGap(w wall, loc *time.Location) wall {
	for _, c := range changes(w, loc) {
		if c.before <= w && w < c.after {
			return c.after
		}
	}
	return w + 1
}

// afterOverlap returns the first reading that a clock, which is shown for the second
// time what is at w, did not show before.
func afterOverlap(w wall, after time.Time) wall {
	for _, c := range changes(w, after.Location()) {
		if c.after <= w && w < c.before {
			return c.before
		}
	}
	return w + 1
}

// Due says when a job is to start that last started at last, or was made then. If a
// time of the event has come since, that is at once, however many of them were
// missed; the job runs once for all of them. Otherwise it is at next; ok is false if
// that is never.
//
// A last start in the future, as after a clock was wrong, counts as now.
func (e Event) Due(last, now time.Time, loc *time.Location) (next time.Time, due, ok bool) {
	if last.After(now) {
		last = now
	}
	next, ok = e.Next(last, loc)
	return next, ok && !next.After(now), ok
}
