package md

import (
	"slices"

	"github.com/holdfast-backup/holdfast/internal/fsread"
)

// layout is where the bytes of an array lie.
type layout struct {
	size int64
	// find gives where a byte is, and how many that follow it lie behind it there.
	find func(off int64) piece
}

// piece is a part of an array.
type piece struct {
	copies []spot
	length int64
	// parity: the members at this place give zero together, but for the one that has
	// the second parity, q, or -1.
	parity bool
	q      int
}

// spot is a place on a member, from the start of its data.
type spot struct {
	slot int
	off  int64
}

func (a *Array) mirror() layout {
	l := layout{size: a.used}
	slot := -1 // of a member with the most events
	for i, m := range a.slots {
		if m != nil && (slot < 0 || m.events > a.slots[slot].events) {
			slot = i
		}
	}
	l.find = func(off int64) piece {
		return piece{copies: []spot{{slot, off}}, length: l.size - off}
	}
	return l
}

// whole is how much of a member is used that is divided into chunks.
func (a *Array) whole(size int64) int64 {
	if a.chunk == 0 {
		return size
	}
	return size - size%a.chunk
}

func (a *Array) linear() layout {
	ends := make([]int64, len(a.slots))
	var size int64
	for i, m := range a.slots {
		size += a.whole(m.size)
		ends[i] = size
	}
	return layout{size: size, find: func(off int64) piece {
		i, found := slices.BinarySearch(ends, off)
		for found && i < len(ends) && ends[i] == off { // members may be empty
			i++
		}
		start := int64(0)
		if i > 0 {
			start = ends[i-1]
		}
		return piece{copies: []spot{{i, off - start}}, length: ends[i] - off}
	}}
}

// zone is a part of a RAID 0 whose stripes are on the same members: those that are
// longer than the zone before.
type zone struct {
	start, end int64 // in the array
	from       int64 // on each member
	slots      []int
}

// The layouts of a RAID 0 of several zones: chunks are dealt out by where they are in the
// array, or in their zone.
const (
	zonesByArray = 1
	zonesByZone  = 2
)

func (a *Array) striped() (layout, error) {
	var zones []zone
	var from, size int64
	for {
		var z zone
		next := int64(-1)
		for i, m := range a.slots {
			if w := a.whole(m.size); w > from {
				z.slots = append(z.slots, i)
				if next < 0 || w < next {
					next = w
				}
			}
		}
		if len(z.slots) == 0 {
			break
		}
		z.start, z.from, z.end = size, from, size+(next-from)*int64(len(z.slots))
		size, from = z.end, next
		zones = append(zones, z)
	}
	if len(zones) > 1 && (!a.layout0 || a.layout != zonesByArray && a.layout != zonesByZone) {
		return layout{}, fsread.Unsupported(layer, "array %s, a RAID 0 of members of different sizes that does not say its layout,", a.Name)
	}
	// Linux counts the size with a mask, even where chunks are no power of two.
	size = 0
	for _, m := range a.slots {
		size += a.whole(m.size) / sector &^ (a.chunk/sector - 1) * sector
	}
	return layout{size: size, find: func(off int64) piece {
		i := slices.IndexFunc(zones, func(z zone) bool { return off < z.end })
		z := zones[i]
		in, n := off-z.start, int64(len(z.slots))
		turn := in / a.chunk
		if a.layout0 && a.layout == zonesByArray {
			turn = off / a.chunk
		}
		within := off % a.chunk
		return piece{copies: []spot{{z.slots[turn%n], z.from + in/a.chunk/n*a.chunk + within}}, length: a.chunk - within}
	}}, nil
}
