package schedfs

import (
	"math/rand/v2"
	"slices"
)

// Picker chooses one of the processes that can go on.
type Picker func(step int, ready []int) int

// Strategy makes the picker of one run.
type Strategy func(rng *rand.Rand, procs int) Picker

// Random chooses evenly at every step.
func Random() Strategy {
	return func(rng *rand.Rand, _ int) Picker {
		return func(_ int, ready []int) int { return ready[rng.IntN(len(ready))] }
	}
}

// PCT gives each process a random rank and runs the highest that can go on; at
// depth-1 random moments of about steps the one that runs becomes the lowest. A
// bug that needs depth orderings is found with a known chance in every run:
// at least 1/(procs·steps^(depth-1)) (Burckhardt and others, ASPLOS 2010).
func PCT(depth, steps int) Strategy {
	return func(rng *rand.Rand, procs int) Picker {
		rank := rng.Perm(procs)
		change := map[int]bool{}
		for range depth - 1 {
			change[rng.IntN(max(steps, 1))] = true
		}
		lowest := 0
		return func(step int, ready []int) int {
			top := slices.MaxFunc(ready, func(a, b int) int { return rank[a] - rank[b] })
			if change[step] {
				lowest--
				rank[top] = lowest
				top = slices.MaxFunc(ready, func(a, b int) int { return rank[a] - rank[b] })
			}
			return top
		}
	}
}

// Search tries all schedules in which at most so many processes are interrupted
// although they could go on. Few interruptions find most bugs, and their number
// bounds the search.
//
//	for s := schedfs.NewSearch(2); s.More(); {
//		r := schedfs.Run(schedfs.Config{Strategy: s.Strategy()}, disk.Clone(), a, b)
//	}
type Search struct {
	interruptions int
	path          []branch
	started       bool
}

type branch struct{ taken, options int }

// NewSearch starts a search.
func NewSearch(interruptions int) *Search { return &Search{interruptions: interruptions} }

// More says whether a schedule is left to try, and moves on to it.
func (s *Search) More() bool {
	if !s.started {
		s.started = true
		return true
	}
	for len(s.path) > 0 {
		last := &s.path[len(s.path)-1]
		if last.taken+1 < last.options {
			last.taken++
			return true
		}
		s.path = s.path[:len(s.path)-1]
	}
	return false
}

// Strategy is that of the next schedule.
func (s *Search) Strategy() Strategy {
	return func(*rand.Rand, int) Picker {
		current, left, depth := -1, s.interruptions, 0
		return func(_ int, ready []int) int {
			options := slices.Clone(ready)
			i := slices.Index(options, current)
			if i >= 0 { // first: go on
				options = slices.Insert(slices.Delete(options, i, i+1), 0, current)
				if left == 0 {
					options = options[:1]
				}
			}
			if depth == len(s.path) {
				s.path = append(s.path, branch{0, len(options)})
			}
			b := s.path[depth]
			depth++
			if i >= 0 && b.taken > 0 {
				left--
			}
			current = options[min(b.taken, len(options)-1)]
			return current
		}
	}
}
