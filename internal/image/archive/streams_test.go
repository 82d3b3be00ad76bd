package archive

import (
	"math/rand/v2"
	"slices"
	"testing"
)

const unit = 1 << 20 // bytes of a chunk in these tests

func newStreams() *streams {
	return &streams{chunk: unit, zero: func(int) bool { return false }}
}

// live returns where the streams stand.
func (s *streams) live() []int64 {
	var ends []int64
	for _, t := range s.list {
		if t.live {
			ends = append(ends, t.next)
		}
	}
	slices.Sort(ends)
	return ends
}

func TestSequentialReadersAreFound(t *testing.T) {
	for _, tc := range []struct {
		name  string
		size  int64
		reads int64 // after which it is found at the latest
	}{
		{"4 KiB", 4 << 10, 128}, {"64 KiB", 64 << 10, 8}, {"256 KiB", 256 << 10, 2}, {"3 MiB", 3 << 20, 2},
	} {
		s := newStreams()
		for k := range tc.reads {
			s.observe(5*unit+k*tc.size, tc.size)
		}
		if got := s.live(); !slices.Equal(got, []int64{5*unit + tc.reads*tc.size}) {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestSmallFileIsNoStream(t *testing.T) {
	s := newStreams()
	for k := range int64(24) {
		s.observe(77*unit+k*4096, 4096)
	}
	if got := s.live(); got != nil {
		t.Errorf("96 KiB of a chunk of 1 MiB are a stream: %v", got)
	}
}

func TestManyRequestsOnTheirWayAreOneStream(t *testing.T) {
	for seed := range uint64(20) {
		s := newStreams()
		rnd := rand.New(rand.NewPCG(seed, 0))
		const size, depth = 128 << 10, 16
		var queue []int64
		unseen := 0
		for k := int64(0); k < 2000; {
			for len(queue) < depth {
				queue = append(queue, k*size)
				k++
			}
			n := rnd.IntN(depth)
			if queue[0] < (k-3*depth)*size {
				n = 0 // even a slow one is answered
			}
			if s.observe(queue[n], size) == nil && k > 10*depth {
				unseen++
			}
			queue = slices.Delete(queue, n, n+1)
		}
		if got := s.live(); len(got) != 1 || unseen > 0 {
			t.Errorf("seed %d: %v, %d reads belong to none", seed, got, unseen)
		}
	}
}

func TestEightStreamsAreFollowedAtATime(t *testing.T) {
	s := newStreams()
	var want []int64
	rnd := rand.New(rand.NewPCG(1, 1))
	for k := range int64(100) {
		for n := range int64(maxStreams) {
			s.observe(n*1000*unit+k*(256<<10), 256<<10)
		}
		s.observe(rnd.Int64N(8000*unit), 4096) // and somebody who looks around
	}
	for n := range int64(maxStreams) {
		want = append(want, n*1000*unit+100*(256<<10))
	}
	if got := s.live(); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	// A ninth takes the place of the one that was read least recently.
	for k := range int64(5) {
		s.observe(9000*unit+k*unit, unit)
	}
	if got := s.live(); !slices.Equal(got, append(want[1:], 9005*unit)) {
		t.Errorf("%v", got)
	}
}

func TestRandomReadsAreNoStream(t *testing.T) {
	for _, slots := range []int64{16, 64, 1000, 100_000} {
		for _, size := range []int64{512, 4096, 64 << 10} {
			s := newStreams()
			rnd := rand.New(rand.NewPCG(uint64(slots), uint64(size)))
			found := 0
			for range 20_000 {
				if s.observe(rnd.Int64N(slots*unit/size)*size, size) != nil {
					found++
				}
			}
			if found > 200 { // one in a hundred may be taken for a neighbour
				t.Errorf("%d slots, reads of %d: %d belong to a stream", slots, size, found)
			}
		}
	}
}

func TestStreamEndsWhenItsReadsBecomeSparse(t *testing.T) {
	for _, tc := range []struct {
		name  string
		zeros bool // in the gaps
		size  int64
		times int
		live  bool
	}{
		{"dense between zeros", true, unit, 1, true},
		{"a little here and there", false, 4096, 1, false},
		{"the same again and again", false, unit, 30, false},
	} {
		s := newStreams()
		s.zero = func(int) bool { return tc.zeros }
		for k := range int64(4) {
			s.observe(k*unit, unit)
		}
		for k := range int64(10) { // three slots are left out each time
			for range tc.times {
				s.observe((7+4*k)*unit, tc.size)
			}
			if tc.times > 1 {
				break
			}
		}
		if got := len(s.live()) == 1; got != tc.live {
			t.Errorf("%s: followed %v, want %v", tc.name, got, tc.live)
		}
	}
}

func TestHotChunksOfManyStayWithinHalf(t *testing.T) {
	c := NewCache(10 * bufferSize(unit))
	var all []*entry
	for k := range 10 {
		e := &entry{name: name{length: unit, space: uint32(k)}}
		e.freq.Store(uint32(k % 4))
		all = append(all, e)
		c.used += e.size()
		c.shard(&e.name).m[e.name] = e
		c.place(e)
	}
	for n := range all {
		v := c.victim(asked)
		if v == nil {
			t.Fatalf("no victim after %d", n)
		}
		if c.lists[kept].bytes > c.limit/2 {
			t.Fatalf("%d bytes are kept", c.lists[kept].bytes)
		}
	}
	if c.used != 0 || c.victim(asked) != nil {
		t.Errorf("%d bytes are left", c.used)
	}
}

func TestTableOfDigestsIsBounded(t *testing.T) {
	var seen [tableSets]int
	for page := range 1 << 14 { // 16 TiB of 4 MiB chunks
		seen[set(page)]++
	}
	for k, n := range seen {
		if n < 200 || n > 320 {
			t.Errorf("set %d has %d of 16384 pages", k, n)
		}
	}
	for stride := 1; stride < 5000; stride++ { // a page is found again among so many others
		var in [tableSets]int
		for k := range 64 {
			in[set(k*stride)]++
		}
		if slices.Max(in[:]) > tableWays*2 {
			t.Errorf("64 pages, %d apart: %d are in one set", stride, slices.Max(in[:]))
		}
	}
}
