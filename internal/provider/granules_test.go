package provider

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

func TestOnlyWholeGranulesAreGivenUpAndAllOfThem(t *testing.T) {
	const size = 5*granule + 512
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		var cuts []int64
		for range rnd.IntN(20) {
			cuts = append(cuts, rnd.Int64N(size/512)*512)
		}
		cuts = append(cuts, 0, size)
		slices.Sort(cuts)
		cuts = slices.Compact(cuts)
		pieces := make([][2]int64, 0, len(cuts))
		for i := range len(cuts) - 1 {
			pieces = append(pieces, [2]int64{cuts[i], cuts[i+1]})
		}
		rnd.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })

		var mu sync.Mutex
		given := map[int64]bool{}
		g := newGranules(size, func(off, n int64) {
			if off%granule != 0 || n < 1 || (off+n)%granule != 0 && off+n != size {
				t.Errorf("[%d,+%d) is given up", off, n)
			}
			mu.Lock()
			defer mu.Unlock()
			for i := off / granule; i*granule < off+n; i++ {
				if given[i] {
					t.Errorf("granule %d is given up twice", i)
				}
				given[i] = true
			}
		})
		var all sync.WaitGroup
		for _, p := range pieces {
			all.Go(func() { g.consumed(p[0], p[1]-p[0]) })
		}
		all.Wait()
		if len(given) != 6 || len(g.partial) != 0 {
			t.Errorf("%d granules are given up, want 6; %v are left", len(given), g.partial)
		}
	}
}

func TestHolesAreNotGivenUpAndCostBoundedMemory(t *testing.T) {
	g := newGranules(1<<62, func(off, _ int64) { t.Errorf("the granule at %d is given up", off) })
	for i := range int64(3 * maxPartial) {
		g.consumed(i*granule+512, 1024)
	}
	if len(g.partial) > maxPartial {
		t.Errorf("%d are kept", len(g.partial))
	}
}
