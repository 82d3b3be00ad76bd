package browse

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
)

// listing yields names, with their place as the size, and counts how often it is
// read.
func listing(names []string, passes *int) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		*passes++
		for i, name := range names {
			if !yield(Entry{Name: name, Size: uint64(i)}, nil) {
				return
			}
		}
	}
}

func TestSortedListingsAreCompleteHoweverLittleFits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 300 {
		names := make([]string, rng.IntN(200))
		for i := range names {
			names[i] = fmt.Sprint(rng.IntN(150)) // some are there twice
		}
		if round%3 == 0 {
			slices.Sort(names)
		}
		budget := 1 + rng.IntN(40000)
		passes := 0
		var got []Entry
		for e, err := range sorted(listing(names, &passes), budget) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		if len(got) != len(names) || !slices.IsSortedFunc(got, func(a, b Entry) int {
			return place{a.Name, int(a.Size)}.compare(place{b.Name, int(b.Size)})
		}) {
			t.Fatalf("round %d: %d names come out as %+v", round, len(names), got)
		}
		weight := 0
		for i := range got {
			weight += got[i].weight()
		}
		if most := 2 + weight/max(budget/2, 300); passes > most {
			t.Errorf("round %d: %d bytes at %d a time took %d passes", round, weight, budget, passes)
		}
		if round%3 == 0 && passes > 2 {
			t.Errorf("round %d: a listing in order took %d passes", round, passes)
		}
	}
}

func TestSortedListingKeepsNoMoreThanItsBudget(t *testing.T) {
	names := make([]string, 5000)
	for i := range names {
		names[i] = fmt.Sprint(i * 7919 % 5000)
	}
	passes := 0
	var done place
	for more := true; more; {
		part, m, _, err := smallest(listing(names, &passes), done, 30000)
		if err != nil {
			t.Fatal(err)
		}
		weight := 0
		for i := range part {
			weight += part[i].weight()
		}
		if weight > 60000 {
			t.Fatalf("%d bytes are kept", weight)
		}
		done, more = part[len(part)-1].place, m
	}
}

func TestSortedListingEndsWhereItsReaderOrItsSourceDoes(t *testing.T) {
	passes := 0
	for e := range sorted(listing([]string{"b", "a", "c"}, &passes), 1<<20) {
		if e.Name != "a" {
			t.Errorf("%q comes first", e.Name)
		}
		break
	}
	broken := errors.New("broken")
	n := 0
	for e, err := range sorted(func(yield func(Entry, error) bool) {
		_ = yield(Entry{Name: "a"}, nil) && yield(Entry{}, broken)
	}, 1<<20) {
		if n++; !errors.Is(err, broken) {
			t.Errorf("%+v, %v", e, err)
		}
	}
	if n != 1 {
		t.Errorf("the error came %d times", n)
	}
}
