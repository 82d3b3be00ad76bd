package plan_test

import (
	"errors"
	"iter"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
)

func id(session uint64, number uint32) pack.ID { return pack.ID{Session: session, Number: number} }

func seq(packs []packrefs.Pack) iter.Seq2[*packrefs.Pack, error] {
	return func(yield func(*packrefs.Pack, error) bool) {
		for _, p := range packs {
			if !yield(&p, nil) {
				return
			}
		}
	}
}

func fold(packs []packrefs.Pack, t *plan.Tally) (all []packrefs.Pack, err error) {
	for p, err := range plan.Fold(seq(packs), t, t.IDs()) {
		if err != nil {
			return nil, err
		}
		all = append(all, *p)
	}
	return all, nil
}

func TestChangesAreFoldedIntoCounts(t *testing.T) {
	packs := []packrefs.Pack{
		{ID: id(1, 0), Size: 100, Named: 2, Chunks: []packrefs.Chunk{{Off: 0, Len: 10, Count: 2}, {Off: 20, Len: 10, Count: 1}}},
		{ID: id(3, 0), Size: 100, Named: 1, Chunks: []packrefs.Chunk{{Off: 0, Len: 10, Count: 1}}},
	}
	var tally plan.Tally
	tally.Name(id(1, 0), 100, -1)
	tally.Count(pack.Location{Pack: id(1, 0), Off: 0, Len: 10}, -1)
	tally.Count(pack.Location{Pack: id(1, 0), Off: 20, Len: 10}, -1)
	tally.Count(pack.Location{Pack: id(1, 0), Off: 10, Len: 10}, 1)
	tally.There(id(2, 7), 50, 9)
	tally.Lock(id(3, 0), 8)
	tally.Remove(id(3, 0))
	tally.Name(id(4, 0), 60, 1)
	tally.Count(pack.Location{Pack: id(4, 0), Off: 5, Len: 3}, 1)
	got, err := fold(packs, &tally)
	want := []packrefs.Pack{
		{ID: id(1, 0), Size: 100, Named: 1, Chunks: []packrefs.Chunk{{Off: 0, Len: 10, Count: 1}, {Off: 10, Len: 10, Count: 1}, {Off: 20, Len: 10}}},
		{ID: id(2, 7), Size: 50, Until: 9},
		{ID: id(3, 0), Size: 100, Named: 1, Until: 8, Removed: true, Chunks: []packrefs.Chunk{{Off: 0, Len: 10, Count: 1}}},
		{ID: id(4, 0), Size: 60, Named: 1, Chunks: []packrefs.Chunk{{Off: 5, Len: 3, Count: 1}}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestCountsBelowZeroAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*plan.Tally)
	}{
		{"a chunk", func(t *plan.Tally) { t.Count(pack.Location{Pack: id(1, 0), Off: 0, Len: 10}, -2) }},
		{"an unknown chunk", func(t *plan.Tally) { t.Count(pack.Location{Pack: id(1, 0), Off: 0, Len: 9}, -1) }},
		{"an unknown pack", func(t *plan.Tally) { t.Count(pack.Location{Pack: id(2, 0), Off: 0, Len: 9}, -1) }},
		{"a name", func(t *plan.Tally) { t.Name(id(1, 0), 0, -2) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var tally plan.Tally
			tc.change(&tally)
			_, err := fold([]packrefs.Pack{{ID: id(1, 0), Named: 1, Chunks: []packrefs.Chunk{{Off: 0, Len: 10, Count: 1}}}}, &tally)
			if !errors.Is(err, plan.ErrCounts) {
				t.Fatalf("%v", err)
			}
		})
	}
}

// What comes and goes in any order leaves what came and did not go.
func TestATallyIsTheSumOfItsChanges(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	want := map[pack.Location]uint32{}
	var packs []packrefs.Pack
	for range 20 {
		var tally plan.Tally
		for range 5000 {
			at := pack.Location{Pack: id(rng.Uint64N(3), rng.Uint32N(3)), Off: 10 * rng.Uint32N(50), Len: 10}
			if want[at] > 0 && rng.IntN(2) == 0 {
				want[at]--
				tally.Count(at, -1)
			} else {
				want[at]++
				tally.Count(at, 1)
			}
		}
		if n := tally.Chunks(); n > 9*64+2*9*50 {
			t.Fatalf("it holds %d changes of %d chunks", n, 9*50)
		}
		var err error
		if packs, err = fold(packs, &tally); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for _, p := range packs {
		for _, k := range p.Chunks {
			if got := want[pack.Location{Pack: p.ID, Off: k.Off, Len: k.Len}]; got != k.Count {
				t.Fatalf("%v: %d, want %d", k, k.Count, got)
			}
			n++
		}
	}
	if n != len(want) {
		t.Fatalf("%d chunks, want %d", n, len(want))
	}
}

func TestTotalsTellNeededIdleAndSparsePacks(t *testing.T) {
	l := plan.Limits{PackSize: 1000}
	var s packrefs.Shard
	for _, p := range []packrefs.Pack{
		{ID: id(1, 0), Size: 1000, Until: 5, Chunks: []packrefs.Chunk{{Off: 0, Len: 900, Count: 1}}},
		{ID: id(1, 1), Size: 900, Until: 3, Chunks: []packrefs.Chunk{{Off: 0, Len: 400, Count: 1}, {Off: 400, Len: 400}}}, // wasteful
		{ID: id(1, 2), Size: 200, Chunks: []packrefs.Chunk{{Off: 0, Len: 150, Count: 1}}},                                 // small
		{ID: id(1, 3), Size: 800, Until: 1, Chunks: []packrefs.Chunk{{Off: 0, Len: 400}, {Off: 400, Len: 300}}},           // idle
		{ID: id(1, 4), Size: 800, Removed: true, Named: 1, Chunks: []packrefs.Chunk{{Off: 0, Len: 400}}},
	} {
		l.Add(&s, &p)
	}
	want := packrefs.Shard{Last: id(1, 4), Packs: 4, Bytes: 2900, Chunks: 3, Needed: 1450, Idle: 1, IdleBytes: 800, IdleChunks: 2, Sparse: 2, Until: 3}
	if s != want {
		t.Fatalf("%+v", s)
	}
}

func TestWhatIsWrittenAnew(t *testing.T) {
	l := plan.Limits{PackSize: 1600, Budget: 2000}
	full := plan.Candidate{ID: id(1, 0), Size: 1600, Needed: 1500}
	waste := plan.Candidate{ID: id(1, 1), Size: 1600, Needed: 500}
	more := plan.Candidate{ID: id(1, 2), Size: 1600, Needed: 100}
	small := plan.Candidate{ID: id(0, 1), Size: 300, Needed: 290}
	many := func(n int, c plan.Candidate) (all []plan.Candidate) {
		for i := range n {
			c.ID.Number = uint32(100 + i)
			all = append(all, c)
		}
		return all
	}
	for _, tc := range []struct {
		name string
		all  []plan.Candidate
		want []plan.Candidate
		more bool
	}{
		{"nothing of a full one", []plan.Candidate{full}, nil, false},
		{"one that wastes space", []plan.Candidate{waste, full}, []plan.Candidate{waste}, false},
		{"no small one alone", []plan.Candidate{small}, nil, false},
		{"no few small ones", many(3, small), nil, false},
		{"small ones that fill a pack", many(6, small), many(6, small), false},
		{"many tiny ones", many(64, plan.Candidate{Size: 10, Needed: 9}), many(64, plan.Candidate{Size: 10, Needed: 9}), false},
		{"those first that waste most", slices.Concat([]plan.Candidate{more}, many(10, waste)), slices.Concat([]plan.Candidate{more}, many(3, waste)), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, more := l.Rewrite(tc.all)
			if !slices.Equal(got, tc.want) || more != tc.more {
				t.Fatalf("%v, %v", got, more)
			}
		})
	}
}

// Indexes that come one by one stay few, and each chunk is copied a few times.
func TestIndexesStayFewAndAreCopiedRarely(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var all []plan.Index
	came, copied := int64(0), int64(0)
	for i := range uint64(10000) {
		x := plan.Index{Key: "x", First: i, Last: i, Chunks: 1 + rng.Int64N(200), Packs: 1}
		came += x.Chunks
		all = append(all, x)
		for _, list := range plan.Merge(all, 1<<40) {
			one := list[0]
			for _, x := range list[1:] {
				one.Chunks += x.Chunks
				one.Packs += x.Packs
				one.Last = max(one.Last, x.Last)
			}
			copied += one.Chunks
			all = slices.DeleteFunc(all, func(x plan.Index) bool { return slices.Contains(list, x) })
			all = append(all, one)
		}
		if len(all) > 21 {
			t.Fatalf("%d indexes after %d", len(all), i)
		}
	}
	if copied > 14*came {
		t.Fatalf("%d chunks came, %d were copied", came, copied)
	}
}

func TestIndexesLoseVoidPacksAndAreNotMadeTooLarge(t *testing.T) {
	whole := plan.Index{Key: "a", First: 1, Last: 9, Chunks: 5000, Packs: 1000, Void: 10}
	stale := plan.Index{Key: "b", First: 10, Last: 19, Chunks: 1000, Packs: 1000, Void: 200}
	empty := plan.Index{Key: "c", First: 20, Last: 20, Chunks: 10, Packs: 2, Void: 2}
	got := plan.Merge([]plan.Index{empty, whole, stale}, 10000)
	if want := [][]plan.Index{{stale}, {empty}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	full := func(first uint64) plan.Index { return plan.Index{First: first, Last: first, Chunks: 9000, Packs: 1} }
	if got := plan.Merge([]plan.Index{full(1), full(2), full(3)}, 10000); len(got) != 0 {
		t.Errorf("full ones are copied: %v", got)
	}
}
