package md

import "github.com/holdfast-backup/holdfast/internal/fsread"

// ten is RAID 10: near copies of a chunk lie on members behind each other, far copies
// in further parts of them, or in the next row (offset).
func (a *Array) ten() (layout, error) {
	near, far, offset, sets := int64(a.layout&0xff), int64(a.layout>>8&0xff), a.layout>>16&1 != 0, a.layout>>17
	n := int64(a.members)
	if near < 1 || far < 1 || near*far < 2 || near*far > n || a.chunk&(a.chunk-1) != 0 {
		return layout{}, fsread.Corrupt(layer, "array %s is a RAID 10 of %d members with the layout %#x", a.Name, n, a.layout)
	}
	set := n // members that hold the copies of each other
	switch sets {
	case 0:
	case 2:
		set = near * far
	default:
		return layout{}, fsread.Unsupported(layer, "array %s, a RAID 10 of layout %#x", a.Name, a.layout)
	}
	chunks := a.used / a.chunk / far * n / near
	// What each member has of each copy, in chunks, and where the next one begins.
	each := (chunks*near*far + n - 1) / n / far
	stride := each * a.chunk
	if offset {
		stride = a.chunk
	}
	lastSet := (n/set - 1) * set
	next := func(slot int64) int64 { // of the next far copy
		moved := slot + near
		if n%set != 0 && moved > lastSet {
			return lastSet + (moved-lastSet)%(set+n%set)
		}
		return slot/set*set + moved%set
	}
	return layout{size: chunks * a.chunk, find: func(off int64) piece {
		at := off / a.chunk * near
		row, slot, within := at/n, at%n, off%a.chunk
		if offset {
			row *= far
		}
		p := piece{length: a.chunk - within}
		for range near {
			s, on := slot, row*a.chunk+within
			for range far {
				p.copies = append(p.copies, spot{int(s), on})
				s, on = next(s), on+stride
			}
			if slot++; slot >= n {
				slot, row = 0, row+1
			}
		}
		return p
	}}, nil
}
