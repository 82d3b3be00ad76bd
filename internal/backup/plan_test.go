package backup

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/image"
)

// kinds is an image of blocks of 512 bytes, each of one kind, whose extents are
// cut at random.
type kinds struct {
	image.Image
	of  []image.Kind
	rnd *rand.Rand
}

func (k *kinds) Size() int64 { return int64(len(k.of))*512 - 100 }

func (k *kinds) ExtentAt(off int64) (image.Extent, error) {
	i := off / 512
	j := i + 1
	for j < int64(len(k.of)) && k.of[j] == k.of[i] && k.rnd.IntN(4) > 0 {
		j++
	}
	return image.Extent{Offset: off, Length: min(j*512, k.Size()) - off, Kind: k.of[i]}, nil
}

// The runs of a plan cover every slot once and in order; a slot is skipped
// exactly when all of it is of one kind that may be.
func TestPlanSkipsExactlyTheSlotsOfOneKind(t *testing.T) {
	const chunk = 4096
	rnd := rand.New(rand.NewPCG(3, 4))
	for round := range 500 {
		img := &kinds{of: make([]image.Kind, 1+rnd.IntN(300)), rnd: rnd}
		for i := 0; i < len(img.of); {
			kind := image.Kind(rnd.IntN(3))
			for n := 1 + rnd.IntN(40); n > 0 && i < len(img.of); n-- {
				img.of[i] = kind
				i++
			}
		}
		reuse := round%2 == 0
		p := newPlan(img, chunk, reuse)
		next := 0
		for {
			r, ok, err := p.next(lanes)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			if r.first != next || r.n < 1 || r.kind == image.Data && r.n > lanes {
				t.Fatalf("round %d: run %+v, want first %d", round, r, next)
			}
			for i := r.first; i < r.first+r.n; i++ {
				want, whole := slotKind(img, i, chunk, reuse)
				if r.kind != want || r.kind == image.Data && !r.mixed && !whole {
					t.Fatalf("round %d: slot %d is %v (mixed %v), want %v", round, i, r.kind, r.mixed, want)
				}
			}
			next += r.n
		}
		if want := int((img.Size() + chunk - 1) / chunk); next != want {
			t.Fatalf("round %d: %d slots, want %d", round, next, want)
		}
	}
}

func slotKind(img *kinds, slot int, chunk int64, reuse bool) (kind image.Kind, whole bool) {
	first := int64(slot) * chunk / 512
	last := min(first+chunk/512, int64(len(img.of))) - 1
	known := func(i int64) image.Kind {
		if img.of[i] == image.Unchanged && !reuse {
			return image.Data
		}
		return img.of[i]
	}
	kind, whole = known(first), true
	for i := first; i <= last; i++ {
		if known(i) != kind {
			return image.Data, false
		}
	}
	return kind, whole
}

func TestPlanRefusesExtentsThatLieOutside(t *testing.T) {
	for _, e := range []image.Extent{
		{Offset: 0, Length: 0},
		{Offset: 0, Length: -1},
		{Offset: 1, Length: 10},
		{Offset: 0, Length: 1001},
	} {
		if _, _, err := newPlan(liar{e: e}, 4096, true).next(1); err == nil {
			t.Errorf("%+v was accepted", e)
		}
	}
}

type liar struct {
	image.Image
	e image.Extent
}

func (liar) Size() int64                            { return 1000 }
func (l liar) ExtentAt(int64) (image.Extent, error) { return l.e, nil }

func TestSeenIsBounded(t *testing.T) {
	s := newSeen(10)
	for i := range 100 {
		s.add([32]byte{byte(i)})
	}
	if len(s.set) != 10 || !s.has([32]byte{3}) || s.has([32]byte{50}) {
		t.Fatal(len(s.set))
	}
}

func TestDefaultWorkersKeepWithinTheBudget(t *testing.T) {
	for _, chunk := range []int{4096, 4 << 20, 16 << 20} {
		n := defaultWorkers(chunk)
		if n < 2 || n > 2 && n*3*chunk > memoryBudget {
			t.Error(fmt.Sprint(chunk, ": ", n, " workers"))
		}
	}
}
