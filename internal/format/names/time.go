package names

import "time"

// MinTime is the earliest time the API accepts for a new snapshot, in seconds
// since 1970-01-01 UTC. Directory names may hold earlier ones.
const MinTime = 1

const (
	minYearTime = -62167219200 // 0000-01-01T00:00:00Z
	maxYearTime = 253402300799 // 9999-12-31T23:59:59Z
)

// FormatTime returns the directory name for t, seconds since 1970-01-01 UTC:
// "2024-06-05T14:24:36Z". For a time outside the years 0000 to 9999 the result
// is longer and no parser accepts it.
func FormatTime(t int64) string {
	return time.Unix(t, 0).UTC().Format("2006-01-02T15:04:05Z")
}

// ParseTime reads a directory name: the form with Z only, and only as
// FormatTime writes it. A name such as ...:60Z is refused because the snapshot
// would not be found again under its time.
func ParseTime(s string) (int64, error) {
	if len(s) != 20 || s[19] != 'Z' {
		return 0, refuse("snapshot time", s, "want YYYY-MM-DDTHH:MM:SSZ")
	}
	t, err := ParseRFC3339(s)
	if err != nil {
		return 0, err
	}
	if FormatTime(t) != s {
		return 0, refuse("snapshot time", s, "not a second of the calendar")
	}
	return t, nil
}

// ParseRFC3339 reads a time with Z (20 bytes) or with an offset +hh:mm or
// -hh:mm (25 bytes). There are no fractions; second 60 is the next second.
func ParseRFC3339(s string) (int64, error) {
	bad := func(why string) (int64, error) { return 0, refuse("time", s, why) }
	const form = "want YYYY-MM-DDTHH:MM:SS followed by Z, +hh:mm or -hh:mm"
	if len(s) != 20 && len(s) != 25 {
		return bad(form)
	}
	if s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return bad(form)
	}
	var f [6]int
	for i, at := range [6]struct{ off, n int }{{0, 4}, {5, 2}, {8, 2}, {11, 2}, {14, 2}, {17, 2}} {
		var ok bool
		if f[i], ok = digits(s[at.off : at.off+at.n]); !ok {
			return bad(form)
		}
	}
	var offset int
	switch sign := s[19]; {
	case sign == 'Z' && len(s) == 20:
	case (sign == '+' || sign == '-') && len(s) == 25 && s[22] == ':':
		h, okH := digits(s[20:22])
		m, okM := digits(s[23:25])
		if !okH || !okM || h > 23 || m > 59 {
			return bad("offset out of range")
		}
		offset = h*3600 + m*60
		if sign == '-' {
			offset = -offset
		}
	default:
		return bad(form)
	}
	year, month, day, hour, minute, sec := f[0], f[1], f[2], f[3], f[4], f[5]
	if hour > 23 || minute > 59 || sec > 60 {
		return bad("hour, minute or second out of range")
	}
	midnight := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if month < 1 || month > 12 || midnight.Month() != time.Month(month) || midnight.Day() != day {
		return bad("no such day")
	}
	t := midnight.Unix() + int64(hour*3600+minute*60+sec-offset)
	if t < minYearTime || t > maxYearTime {
		return bad("outside the years 0000 to 9999")
	}
	return t, nil
}

func digits(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
