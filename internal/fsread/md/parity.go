package md

import "github.com/holdfast-backup/holdfast/internal/fsread"

// parity is RAID 4, 5 and 6: in each row of chunks some are parity, and which ones
// goes around.
func (a *Array) parity(spare int) (layout, error) {
	place := a.rows()
	if place == nil {
		return layout{}, fsread.Unsupported(layer, "array %s, a RAID %d of layout %d", a.Name, a.level, a.layout)
	}
	data := int64(a.members - spare)
	return layout{size: a.whole(a.used) * data, find: func(off int64) piece {
		chunk, within := off/a.chunk, off%a.chunk
		row := chunk / data
		slot, q := place(row, int(chunk%data))
		return piece{copies: []spot{{slot, row*a.chunk + within}}, length: a.chunk - within, parity: true, q: q}
	}}, nil
}

// rows says for a row and the number of a chunk of data in it on which member the chunk
// lies, and on which the second parity is, -1 for none. nil: the layout is not known.
func (a *Array) rows() func(row int64, i int) (slot, q int) {
	n := a.members
	if a.level == 4 {
		return func(_ int64, i int) (int, int) { return i, -1 }
	}
	if a.level == 5 {
		return oneParity(n, a.layout)
	}
	if a.layout >= 16 { // as a RAID 5 of the others, and the second parity is on the last one
		five := oneParity(n-1, a.layout-16)
		if five == nil {
			return nil
		}
		return func(row int64, i int) (int, int) {
			slot, _ := five(row, i)
			return slot, n - 1
		}
	}
	return twoParities(n, a.layout)
}

// Layouts of RAID 5, in which the parity goes to the left or right, and data begins at the
// first member or behind the parity.
const (
	leftAsymmetric = iota
	rightAsymmetric
	leftSymmetric
	rightSymmetric
	parityFirst
	parityLast
)

// Further layouts of RAID 6.
const (
	zeroRestart = 8
	lastRestart = 9
	lastGoesOn  = 10
)

func oneParity(n int, layout uint32) func(row int64, i int) (slot, q int) {
	place := func(p func(turn int) int, behind bool) func(int64, int) (int, int) {
		return func(row int64, i int) (int, int) {
			at := p(int(row % int64(n)))
			switch {
			case behind:
				return (at + 1 + i) % n, -1
			case i >= at:
				return i + 1, -1
			}
			return i, -1
		}
	}
	left := func(turn int) int { return n - 1 - turn }
	right := func(turn int) int { return turn }
	switch layout {
	case leftAsymmetric:
		return place(left, false)
	case rightAsymmetric:
		return place(right, false)
	case leftSymmetric:
		return place(left, true)
	case rightSymmetric:
		return place(right, true)
	case parityFirst:
		return place(func(int) int { return 0 }, false)
	case parityLast:
		return place(func(int) int { return n - 1 }, false)
	}
	return nil
}

func twoParities(n int, layout uint32) func(row int64, i int) (slot, q int) {
	// The second parity is behind the first one, and data in its order around both.
	asymmetric := func(p int, i int) (int, int) {
		switch {
		case p == n-1: // the second one is on the first member
			return i + 1, 0
		case i >= p:
			return i + 2, p + 1
		}
		return i, p + 1
	}
	symmetric := func(p int, i int) (int, int) { return (p + 2 + i) % n, (p + 1) % n }
	turn := func(row int64) int { return int(row % int64(n)) }
	switch layout {
	case leftAsymmetric:
		return func(row int64, i int) (int, int) { return asymmetric(n-1-turn(row), i) }
	case rightAsymmetric, zeroRestart:
		return func(row int64, i int) (int, int) { return asymmetric(turn(row), i) }
	case leftSymmetric:
		return func(row int64, i int) (int, int) { return symmetric(n-1-turn(row), i) }
	case rightSymmetric:
		return func(row int64, i int) (int, int) { return symmetric(turn(row), i) }
	case parityFirst:
		return func(_ int64, i int) (int, int) { return i + 2, 1 }
	case parityLast:
		return func(_ int64, i int) (int, int) { return i, n - 1 }
	case lastRestart:
		return func(row int64, i int) (int, int) { return asymmetric(n-1-turn(row+1), i) }
	case lastGoesOn:
		return func(row int64, i int) (int, int) {
			p := n - 1 - turn(row)
			return (p + 1 + i) % n, (p + n - 1) % n
		}
	}
	return nil
}
