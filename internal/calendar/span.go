package calendar

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Lengths of months and years as PBS and systemd take them.
const (
	day   = 24 * time.Hour
	week  = 7 * day
	month = 3044 * day / 100  // 30.44 days
	year  = 36525 * day / 100 // 365.25 days
)

// units are from the longest to the shortest; the first name is the one written.
var units = []struct {
	length time.Duration
	names  string
}{
	{year, "y year years"},
	{month, "M month months"},
	{week, "w week weeks"},
	{day, "d day days"},
	{time.Hour, "h hr hour hours"},
	{time.Minute, "m min minute minutes"},
	{time.Second, "s sec second seconds"},
	{time.Millisecond, "ms msec"},
	{time.Microsecond, "us usec µs μs"},
	{time.Nanosecond, "ns nsec"},
}

// ParseSpan reads a span of time: whole numbers, each with a unit behind it, as in
// "1h 30min". They are added up, whatever their order. Without a unit seconds are
// meant. Blanks do not count.
//
//	y, year, years       365.25 days       s, sec, second, seconds
//	M, month, months     30.44 days        ms, msec
//	w, week, weeks                         us, usec, µs
//	d, day, days                           ns, nsec
//	h, hr, hour, hours                     m, min, minute, minutes
func ParseSpan(s string) (time.Duration, error) {
	bad := func(format string, args ...any) (time.Duration, error) {
		return 0, fmt.Errorf("span of time %q: %w: %s", s, ErrFormat, fmt.Sprintf(format, args...))
	}
	rest := strings.Trim(s, " \t")
	if rest == "" {
		return bad("it is empty")
	}
	var sum time.Duration
	for rest != "" {
		n, digits := int64(0), 0
		for ; digits < len(rest) && digit(rest[digits]); digits++ {
			d := int64(rest[digits] - '0')
			if n > (math.MaxInt64-d)/10 {
				return bad("a number is too large")
			}
			n = n*10 + d
		}
		if digits == 0 {
			return bad("want a number at %q", rest)
		}
		rest = strings.TrimLeft(rest[digits:], " \t")
		end := strings.IndexAny(rest, " \t0123456789")
		if end < 0 {
			end = len(rest)
		}
		unit := rest[:end]
		rest = strings.TrimLeft(rest[end:], " \t")
		length := unitLength(unit)
		if length == 0 {
			return bad("%q is no unit", unit)
		}
		if n > int64(math.MaxInt64-sum)/int64(length) {
			return bad("it is longer than 292 years")
		}
		sum += time.Duration(n) * length
	}
	return sum, nil
}

func unitLength(name string) time.Duration {
	if name == "" {
		return time.Second
	}
	for _, u := range units {
		for n := range strings.FieldsSeq(u.names) {
			if n == name {
				return u.length
			}
		}
	}
	return 0
}

// FormatSpan writes a span of time that is not negative, as "1h 30m"; ParseSpan reads
// it back as the same.
func FormatSpan(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	var parts []string
	for _, u := range units {
		if n := d / u.length; n > 0 {
			short, _, _ := strings.Cut(u.names, " ")
			parts = append(parts, fmt.Sprint(int64(n), short))
			d -= n * u.length
		}
	}
	return strings.Join(parts, " ")
}
