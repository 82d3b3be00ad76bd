package overlay_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image/overlay"
)

// model knows for each sector what it may hold: now, and after a crash. It
// only follows sectors that were ever changed.
type model struct {
	size  int64
	now   map[int64][]int // versions; more than one after a failed write or a discard
	crash map[int64][]int
	next  int                    // version
	odd   map[int64][sector]byte // what a torn sector holds: version -2 - sector
}

func newModel(size int64) *model {
	return &model{size: size, now: map[int64][]int{}, crash: map[int64][]int{}, odd: map[int64][sector]byte{}}
}

func (m *model) may(set map[int64][]int, s int64) []int {
	if v, ok := set[s]; ok {
		return v
	}
	return []int{baseVersion}
}

func add(set []int, v int) []int {
	if slices.Contains(set, v) {
		return set
	}
	return append(slices.Clone(set), v)
}

// change notes a write of a version to sectors; sure is false when it failed
// or promised nothing.
func (m *model) change(first, last int64, version int, sure bool) {
	for s := first; s <= last; s++ {
		m.crash[s] = add(m.may(m.crash, s), version)
		if sure {
			m.now[s] = []int{version}
		} else {
			m.now[s] = add(m.may(m.now, s), version)
		}
	}
}

func (m *model) flushed() {
	for s, v := range m.now {
		m.crash[s] = v
	}
}

// sectorBytes cuts the sector at the image's end.
func (m *model) sectorBytes(v int, s int64) []byte {
	c := content(v, s)
	if odd, ok := m.odd[s]; ok && v == -2 {
		c = odd
	}
	return c[:min(sector, m.size-s*sector)]
}

// event is what happened to an overlay since it was last looked at.
type event int

const (
	running  event = iota
	killed         // the process died: the page cache stays, but is not durable
	powerCut       // the machine died
)

// check compares all changed sectors and their surroundings with what they may
// hold. After a crash what is found is what holds from then on; a sector that
// is torn itself counts only where something was under way.
func (m *model) check(t *testing.T, ov *overlay.Overlay, after event) {
	t.Helper()
	look := map[int64]bool{}
	for s := range m.now {
		for near := s &^ 7; near < s|7+1; near++ {
			if near*sector < m.size {
				look[near] = true
			}
		}
	}
	for s := range look {
		set := m.now
		if after != running {
			set = m.crash
		}
		may := m.may(set, s)
		var got [sector]byte
		part := got[:min(sector, m.size-s*sector)]
		if n, err := ov.ReadAt(part, s*sector); n < len(part) {
			t.Fatalf("read sector %d: %v", s, err)
		}
		i := slices.IndexFunc(may, func(v int) bool { return string(m.sectorBytes(v, s)) == string(part) })
		switch {
		case i >= 0:
			if after != running {
				m.now[s] = []int{may[i]}
			}
			if after == powerCut {
				m.crash[s] = m.now[s]
			}
		case after == powerCut && len(may) > 1 && !m.known(s, part):
			m.odd[s] = got
			m.now[s], m.crash[s] = []int{-2}, []int{-2}
		default:
			t.Fatalf("sector %d (block %d, offset %d) holds %x.., may hold versions %v (event %d); it is %s",
				s, s/8, s*sector, part[:8], may, after, m.what(s, part))
		}
	}
}

// known reports content that some write made, here or elsewhere, or zeros.
func (m *model) known(s int64, b []byte) bool { return m.what(s, b) != "unknown" }

func (m *model) what(s int64, b []byte) string {
	for v := -1; v <= m.next; v++ {
		if string(m.sectorBytes(v, s)) == string(b) {
			return fmt.Sprintf("version %d", v)
		}
	}
	return "unknown"
}

// step does one random thing to an overlay and the model. It returns what it
// was and its error.
func (m *model) step(r *rand.Rand, ov *overlay.Overlay) (string, error) {
	// Places where something is special: the start, the end, a page's border.
	hot := []int64{0, m.size - 8*block, pageSpan - 4*block, 2*pageSpan - 2*block, m.size / 2 &^ (block - 1)}
	at := max(0, hot[r.IntN(len(hot))]+int64(r.IntN(8))*block)
	first := min(at/sector+int64(r.IntN(8))*int64(r.IntN(2)), (m.size-1)/sector)
	last := min(first+int64(r.IntN(1+[]int{1, 8, 24}[r.IntN(3)])), (m.size-1)/sector)
	off, end := first*sector, min((last+1)*sector, m.size)
	switch k := r.IntN(12); {
	case k < 6:
		m.next++
		v := m.next
		var p []byte
		for s := first; s <= last; s++ {
			p = append(p, m.sectorBytes(v, s)...)
		}
		_, err := ov.WriteAt(p, off)
		m.change(first, last, v, err == nil)
		return fmt.Sprintf("write [%d,%d) version %d", off, end, v), err
	case k < 8:
		err := ov.Zero(off, end-off)
		m.change(first, last, -1, err == nil)
		return fmt.Sprintf("zero [%d,%d)", off, end), err
	case k < 9:
		err := ov.Discard(off, end-off)
		m.change(first, last, -1, false)
		return fmt.Sprintf("discard [%d,%d)", off, end), err
	}
	err := ov.Flush()
	if err == nil {
		m.flushed()
	}
	return "flush", err
}
