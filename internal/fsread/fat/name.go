package fat

import (
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/fsread"
	"golang.org/x/text/encoding/charmap"
)

// usable reports whether a name may be shown as one.
func usable(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// dos decodes bytes of code page 437, without the blanks behind them.
func dos(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(charmap.CodePage437.DecodeByte(c))
	}
	return strings.TrimRight(s.String(), " \x00")
}

// shortName is the name of 8 and 3 bytes of an entry, in the case that Windows
// NT remembered.
func shortName(rec []byte) string {
	raw := [11]byte(rec[:11])
	if raw[0] == 0x05 {
		raw[0] = 0xe5
	}
	base, ext := dos(raw[:8]), dos(raw[8:])
	if rec[12]&0x08 != 0 {
		base = strings.ToLower(base)
	}
	if rec[12]&0x10 != 0 {
		ext = strings.ToLower(ext)
	}
	if ext != "" {
		return base + "." + ext
	}
	return base
}

// longName collects the parts of a long name.
type longName struct {
	units []uint16 // from the back
	next  byte     // number of the part that should come; 0: none
	sum   byte
	valid bool
}

// add takes one part; see the package comment for their order.
func (l *longName) add(rec []byte) {
	n := rec[0] & 0x3f
	if rec[0]&0x40 != 0 {
		*l = longName{units: make([]uint16, 0, 13*20), next: n, sum: rec[13], valid: n >= 1 && n <= 20}
	}
	if !l.valid || n == 0 || n != l.next || rec[13] != l.sum {
		*l = longName{}
		return
	}
	for _, part := range [][]byte{rec[28:32], rec[14:26], rec[1:11]} {
		for i := len(part) - 2; i >= 0; i -= 2 {
			l.units = append(l.units, le.Uint16(part[i:]))
		}
	}
	l.next--
}

// take gives the name if it is whole and that of rec, and begins anew.
func (l *longName) take(rec []byte) (string, bool) {
	done := *l
	*l = longName{}
	if !done.valid || done.next != 0 {
		return "", false
	}
	var sum byte
	for _, c := range rec[:11] {
		sum = sum>>1 | sum<<7
		sum += c
	}
	if sum != done.sum {
		return "", false
	}
	units := make([]uint16, 0, len(done.units))
	for i := len(done.units) - 1; i >= 0 && done.units[i] != 0; i-- {
		units = append(units, done.units[i])
	}
	return fsread.UTF16(units), true
}

// dosTime is a date and a time of day, and hundredths of seconds beyond; zero if
// there is none.
func dosTime(date, clock uint16, hundredths byte) time.Time {
	if date == 0 {
		return time.Time{}
	}
	return time.Date(1980+int(date>>9), time.Month(date>>5&15), int(date&31),
		int(clock>>11), int(clock>>5&63), int(clock&31)*2, int(min(hundredths, 199))*10_000_000, time.UTC)
}
