// Package calendar is when a job runs: calendar events such as "mon..fri 02:30",
// and spans of time such as "1h 30min", in the dialect of PBS. It knows no clock.
//
// # Events
//
//	[WEEKDAYS] [[YEARS-]MONTHS-DAYS] [[HOURS:]MINUTES[:SECONDS]] [UTC]
//
// with at least one of the three parts before UTC. Without weekdays or days every
// day is meant, without a time 00:00:00, without hours every hour, without seconds
// second 0.
//
//	WEEKDAYS   mon,tue or wednesday or mon..fri, in any case; sat..mon goes over
//	           the end of the week
//	others     *     every value
//	           */n   every n-th, from the first one on
//	           or a list with "," of
//	           a     one value
//	           a..b  from a to b
//	           a/n   a, a+n, a+2n...; a..b/n up to b
//
//	minutely               *-*-* *:*:00
//	hourly                 *-*-* *:00:00
//	daily                  *-*-* 00:00:00
//	weekly                 mon *-*-* 00:00:00
//	monthly                *-*-01 00:00:00
//	quarterly              *-01,04,07,10-01 00:00:00
//	semiannually           *-01,07-01 00:00:00, also semi-annually
//	yearly                 *-01-01 00:00:00, also annually
//
// A day has to fit weekdays and days, if both are given: "sat *-1..7 15:00" is the
// first Saturday of every month. All of it also is an event of systemd, except a
// time without ":", for minutes alone, and hours left out before minutes. What
// systemd has besides (the last days of a month, other time zones, parts of
// seconds) is not there.
//
// # Clocks that change
//
// An event is times on the clock of a place. What a clock skips in spring does not
// happen that day; what it shows twice in autumn happens the first time. The
// servers of PBS and systemd do the same. Events from 02:00 to 03:00 are best
// avoided where clocks change, or given in UTC.
//
// # Errors
//
// Parsers return errors that wrap [ErrFormat], and say what is wrong where.
//
// # Source
//
// proxmox-rs: proxmox-time/src/{calendar_event,date_time_value,week_days,
// time_span}.rs; proxmox-backup: docs/calendarevents.rst; systemd.time(7).
package calendar

import (
	"errors"
	"fmt"
	"strings"
)

// ErrFormat is wrapped by the errors of all parsers.
var ErrFormat = errors.New("not a calendar event or span of time")

// Event is times that come again and again. Only Parse makes one.
type Event struct {
	utc                  bool
	days                 uint8 // bit 0: Monday; 0: every day
	year, month, day     field
	hour, minute, second field
}

// field is the values that one part of a time may have, in the order in which they
// were written. Empty: every value.
type field []values

// values are from, from+step, ... up to to.
type values struct{ from, to, step int }

// part is what there is to know of a part of a time.
type part struct {
	name     string
	min, max int
}

var (
	years   = part{"year", 0, 2199}
	months  = part{"month", 1, 12}
	days    = part{"day", 1, 31}
	hours   = part{"hour", 0, 23}
	minutes = part{"minute", 0, 59}
	seconds = part{"second", 0, 59}
)

// next returns the smallest value that is v or more.
func (f field) next(v int, p part) (int, bool) {
	if v = max(v, p.min); v > p.max {
		return 0, false
	}
	if len(f) == 0 {
		return v, true
	}
	best, ok := 0, false
	for _, r := range f {
		n := r.from
		if v > n {
			n += (v - n + r.step - 1) / r.step * r.step
		}
		if n <= r.to && (!ok || n < best) {
			best, ok = n, true
		}
	}
	return best, ok
}

var weekdays = [7]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

// String returns an event in full; Parse reads it back as the same.
func (e Event) String() string {
	var b strings.Builder
	for i := 0; i < 7 && e.days != 0; i++ {
		if e.days>>i&1 == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(weekdays[i])
		last := i
		for last < 6 && e.days>>(last+1)&1 == 1 {
			last++
		}
		if last > i+1 { // three in a row
			b.WriteString(".." + weekdays[last])
			i = last
		}
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	fmt.Fprintf(&b, "%s-%s-%s %s:%s:%s", e.year.text(years), e.month.text(months), e.day.text(days),
		e.hour.text(hours), e.minute.text(minutes), e.second.text(seconds))
	if e.utc {
		b.WriteString(" UTC")
	}
	return b.String()
}

func (f field) text(p part) string {
	if len(f) == 0 {
		return "*"
	}
	all := make([]string, len(f))
	for i, r := range f {
		all[i] = fmt.Sprintf("%02d", r.from)
		switch {
		case r.from == r.to:
		case r.step == 1:
			all[i] += fmt.Sprintf("..%02d", r.to)
		case r.to == p.max:
			all[i] += fmt.Sprintf("/%d", r.step)
		default:
			all[i] += fmt.Sprintf("..%02d/%d", r.to, r.step)
		}
	}
	return strings.Join(all, ",")
}
