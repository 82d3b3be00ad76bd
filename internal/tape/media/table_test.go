package media

import "testing"

func TestTableTakesLessThanTwentyBytesAChunk(t *testing.T) {
	for _, n := range []int{1_000, 1_000_000} {
		full := newTable(n)
		grown := newTable(0)
		for i := range n {
			d := chunk(uint64(i))
			full.add(&d, position(i+8))
			grown.add(&d, position(i+8))
		}
		if per := float64(8*full.slots) / float64(max(n, 1024)); per > 10 {
			t.Errorf("%d chunks that were expected take %.1f bytes each", n, per)
		}
		if per := float64(8*grown.slots) / float64(max(n, 1024)); per > 20 {
			t.Errorf("%d chunks that were not expected take %.1f bytes each", n, per)
		}
		for i := range n {
			d := chunk(uint64(i))
			for _, tab := range []*table{full, grown} {
				found := false
				if err := tab.find(&d, func(p position) (bool, error) {
					found = found || p == position(i+8)
					return found, nil
				}); err != nil || !found {
					t.Fatalf("chunk %d is lost, %v", i, err)
				}
			}
		}
	}
}

func TestPositionsKeepMemberAndOffset(t *testing.T) {
	for _, member := range []int{0, 1, MaxMembers - 1} {
		for _, off := range []int64{8, 1 << 20, maxOffset} {
			p, err := newPosition(member, off)
			if err != nil || p.member() != member || p.offset() != off || p > positions {
				t.Errorf("%d, %d: %x, %v", member, off, p, err)
			}
		}
	}
	for _, bad := range []func() (position, error){
		func() (position, error) { return newPosition(0, maxOffset+1) },
		func() (position, error) { return newPosition(MaxMembers, 8) },
	} {
		if _, err := bad(); err == nil {
			t.Error("a position that does not fit")
		}
	}
}
