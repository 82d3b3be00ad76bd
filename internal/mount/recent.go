package mount

import "sync/atomic"

// recent keeps what was used lately, by node, in sets of four: a new value
// takes the place of the oldest in its set. It is safe for concurrent use.
type recent[T any] struct{ sets []set[T] }

const ways = 4

type set[T any] struct {
	way  [ways]atomic.Pointer[kept[T]]
	next atomic.Uint32 // way that is replaced next
}

type kept[T any] struct {
	node  node
	value T
}

// newRecent keeps n values, a power of two and at least four.
func newRecent[T any](n int) recent[T] { return recent[T]{make([]set[T], n/ways)} }

func (r *recent[T]) of(n node) *set[T] {
	x := uint64(n) * 0x9e3779b97f4a7c15
	return &r.sets[x>>32%uint64(len(r.sets))]
}

func (r *recent[T]) get(n node) (v T, ok bool) {
	s := r.of(n)
	for i := range s.way {
		if k := s.way[i].Load(); k != nil && k.node == n {
			return k.value, true
		}
	}
	return v, false
}

func (r *recent[T]) put(n node, v T) {
	s := r.of(n)
	for i := range s.way {
		if k := s.way[i].Load(); k != nil && k.node == n {
			s.way[i].Store(&kept[T]{n, v})
			return
		}
	}
	s.way[s.next.Add(1)%ways].Store(&kept[T]{n, v})
}
