package media

import (
	"fmt"
	"math"
	"time"

	"github.com/holdfast-backup/holdfast/internal/calendar"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

// Pool is what is set for a pool.
type Pool struct {
	Name       string
	Allocation Allocation
	Retention  Retention
	Template   string                 // of names of media sets; "": "%c"
	Key        chunkcrypt.Fingerprint // of the key that new media sets are encrypted with; zero: none
}

// Allocation says when a backup begins a new media set although it could go on
// with the current one. The zero value is never.
type Allocation struct {
	always bool
	event  *calendar.Event
}

// ParseAllocation reads "continue", "always" or a calendar event. "" is
// "continue".
func ParseAllocation(s string) (Allocation, error) {
	switch s {
	case "", "continue":
		return Allocation{}, nil
	case "always":
		return Allocation{always: true}, nil
	}
	e, err := calendar.Parse(s)
	if err != nil {
		return Allocation{}, fmt.Errorf("when a new media set is begun: want continue, always or a calendar event: %w", err)
	}
	return Allocation{event: &e}, nil
}

// Retention says how long the data of a full medium is kept. The zero value is
// for ever.
type Retention struct {
	limited bool
	span    time.Duration // from the moment on that the media set is not used any more
}

// ParseRetention reads "keep", "overwrite" or a span of time. "" is "keep".
func ParseRetention(s string) (Retention, error) {
	switch s {
	case "", "keep":
		return Retention{}, nil
	case "overwrite":
		return Retention{limited: true}, nil
	}
	d, err := calendar.ParseSpan(s)
	if err != nil {
		return Retention{}, fmt.Errorf("how long media are kept: want keep, overwrite or a span of time: %w", err)
	}
	return Retention{true, d}, nil
}

// never is a moment that does not come.
const never = math.MaxInt64

// Expires returns the moment from which on a full medium may be overwritten; ok is
// false if it may never be.
func (inv *Inventory) Expires(m Medium, p Pool, loc *time.Location) (t time.Time, ok bool) {
	unix := inv.expires(m, p, loc)
	return time.Unix(unix, 0), unix != never
}

func (inv *Inventory) expires(m Medium, p Pool, loc *time.Location) int64 {
	if !p.Retention.limited || !m.InSet() {
		return never
	}
	start, ok := inv.Start(m.Set.UUID)
	if !ok {
		start = m.Set.Ctime // not before that
	}
	base := inv.lastUse(m, p, start, loc)
	span := int64(p.Retention.span / time.Second)
	if base > never-span { // never as well
		return never
	}
	return base + span
}

// lastUse is when the media set of a medium was, or will be, written to for the
// last time.
func (inv *Inventory) lastUse(m Medium, p Pool, start int64, loc *time.Location) int64 {
	if p.Allocation.always {
		return start
	}
	if next, ok := inv.next(m.Set.UUID); ok {
		return next
	}
	if p.Allocation.event == nil {
		return never
	}
	next, ok := p.Allocation.event.Next(time.Unix(start, 0), loc)
	if !ok {
		return never
	}
	return next.Unix()
}

// due reports whether it is time for a new media set after one that was begun at
// start.
func (a Allocation) due(start int64, now time.Time, loc *time.Location) bool {
	if a.event == nil {
		return a.always
	}
	next, ok := a.event.Next(time.Unix(start, 0), loc)
	return ok && !now.Before(next)
}
