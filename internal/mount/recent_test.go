package mount

import (
	"sync"
	"testing"
)

func TestRecentKeepsTheLastOfEachSet(t *testing.T) {
	r := newRecent[int](4)
	for i := range 4 {
		r.put(node(i), i)
	}
	r.put(2, 22)
	for i, want := range []int{0, 1, 22, 3} {
		if v, ok := r.get(node(i)); !ok || v != want {
			t.Errorf("%d: %d, %v", i, v, ok)
		}
	}
	r.put(9, 9)
	lost := 0
	for i := range 4 {
		if _, ok := r.get(node(i)); !ok {
			lost++
		}
	}
	if v, ok := r.get(9); !ok || v != 9 || lost != 1 {
		t.Errorf("%d, %v; %d are gone", v, ok, lost)
	}
}

func TestRecentIsBoundedAndNeverMistaken(t *testing.T) {
	r := newRecent[node](64)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range node(10_000) {
				n := i*7 + node(g)
				r.put(n, n)
				if v, ok := r.get(n); ok && v != n {
					t.Errorf("%d is %d", n, v)
				}
			}
		})
	}
	all.Wait()
	kept := 0
	for i := range node(80_000) {
		if v, ok := r.get(i); ok {
			kept++
			if v != i {
				t.Errorf("%d is %d", i, v)
			}
		}
	}
	if kept != 64 {
		t.Errorf("%d are kept", kept)
	}
}
