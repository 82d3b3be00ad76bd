package archive

import "sync/atomic"

// The table of digests is kept in pages, in sets of which a page may take any
// place. All pages together are 4 MiB: the digests of half a TiB at the usual
// chunk size, and of what a cache of any sensible size holds.
const (
	pageSlots = 256 // 8 KiB
	tableSets = 64
	tableWays = 8
)

// table answers what the index says of a slot, mostly without a system call.
type table[T any] struct {
	count int
	read  func(first int, dst []T) error
	sets  [tableSets]struct {
		way  [tableWays]atomic.Pointer[page[T]]
		next atomic.Uint32 // way that is replaced next
	}
}

type page[T any] struct {
	no int
	d  [pageSlots]T
}

// at returns what the index says of a slot that exists. It reads the index if
// need be.
func (t *table[T]) at(slot int) (v T, err error) {
	if v, ok := t.peek(slot); ok {
		return v, nil
	}
	p, err := t.load(slot / pageSlots)
	if err != nil {
		return v, err
	}
	return p.d[slot%pageSlots], nil
}

func (t *table[T]) load(no int) (*page[T], error) {
	p := &page[T]{no: no}
	first := no * pageSlots
	if err := t.read(first, p.d[:min(pageSlots, t.count-first)]); err != nil {
		return nil, err
	}
	s := &t.sets[set(no)]
	s.way[s.next.Add(1)%tableWays].Store(p)
	return p, nil
}

// peek is at without reading.
func (t *table[T]) peek(slot int) (v T, ok bool) {
	if p := t.find(slot / pageSlots); p != nil {
		return p.d[slot%pageSlots], true
	}
	return v, false
}

// find returns a page if it is there.
func (t *table[T]) find(no int) *page[T] {
	s := &t.sets[set(no)]
	for i := range s.way {
		if p := s.way[i].Load(); p != nil && p.no == no {
			return p
		}
	}
	return nil
}

// set spreads pages at any distance from each other.
func set(page int) int {
	x := uint64(page) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	return int(x * 0xd6e8feb86659fd93 >> (64 - 6))
}

var _ [tableSets - 1<<6]struct{} // set makes six bits
