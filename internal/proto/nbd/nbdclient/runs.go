package nbdclient

import (
	"fmt"
	"sort"
)

// maxRuns bounds what is kept of one reply: a status may be shorter than what
// was asked for, so what is left out is asked for again.
const maxRuns = 16384

// runs are adjacent ranges with their flags, joined where these are equal.
type runs struct {
	start int64
	list  []stretch
	seen  int64 // end of all extents, also of those left out
	cut   bool  // some were left out
}

// stretch ends at end and begins where the one before ends.
type stretch struct {
	end   int64
	flags uint64
}

// end is where what is known ends.
func (r *runs) end() int64 {
	if len(r.list) == 0 {
		return r.start
	}
	return r.list[len(r.list)-1].end
}

// add appends an extent of a reply. Every extent must begin before asked, the
// end of the request; what lies behind size is cut off.
func (r *runs) add(length, flags uint64, asked, size int64) error {
	at := max(r.seen, r.start)
	if length == 0 || at >= asked {
		return fmt.Errorf("%w: an extent of %d bytes at offset %d, where the request ends at %d", ErrProtocol, length, at, asked)
	}
	r.seen = at + int64(min(length, uint64(size-at)))
	n := len(r.list)
	switch {
	case r.cut:
	case n > 0 && r.list[n-1].flags == flags:
		r.list[n-1].end = r.seen
	case n == maxRuns:
		r.cut = true
	default:
		r.list = append(r.list, stretch{r.seen, flags})
	}
	return nil
}

// at is the range from off to the end of the run that off lies in.
func (r *runs) at(off int64) (end int64, flags uint64, ok bool) {
	if off < r.start || off >= r.end() {
		return 0, 0, false
	}
	s := r.list[sort.Search(len(r.list), func(i int) bool { return r.list[i].end > off })]
	return s.end, s.flags, true
}
