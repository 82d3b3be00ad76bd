package archive

import (
	"sync/atomic"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// The table of digests is kept in pages, in sets of which a page may take any
// place. All pages together are 4 MiB: the digests of half a TiB at the usual
// chunk size, and of what a cache of any sensible size holds.
const (
	pageSlots = 256 // 8 KiB
	tableSets = 64
	tableWays = 8
)

// table answers which digest a slot has, mostly without a system call.
type table struct {
	x    *fetch.Image
	sets [tableSets]struct {
		way  [tableWays]atomic.Pointer[page]
		next atomic.Uint32 // way that is replaced next
	}
}

type page struct {
	no int
	d  [pageSlots]digest.Digest
}

// at returns the digest of a slot that exists. It reads the index if need be.
func (t *table) at(slot int) (digest.Digest, error) {
	if d, ok := t.peek(slot); ok {
		return d, nil
	}
	p := &page{no: slot / pageSlots}
	first := p.no * pageSlots
	if err := t.x.Digests(first, p.d[:min(pageSlots, t.x.Count()-first)]); err != nil {
		return digest.Digest{}, err
	}
	s := &t.sets[set(p.no)]
	s.way[s.next.Add(1)%tableWays].Store(p)
	return p.d[slot%pageSlots], nil
}

// peek is at without reading.
func (t *table) peek(slot int) (d digest.Digest, ok bool) {
	no := slot / pageSlots
	s := &t.sets[set(no)]
	for i := range s.way {
		if p := s.way[i].Load(); p != nil && p.no == no {
			return p.d[slot%pageSlots], true
		}
	}
	return d, false
}

// set spreads pages at any distance from each other.
func set(page int) int {
	x := uint64(page) * 0x9e3779b97f4a7c15
	x ^= x >> 32
	return int(x * 0xd6e8feb86659fd93 >> (64 - 6))
}

var _ [tableSets - 1<<6]struct{} // set makes six bits
