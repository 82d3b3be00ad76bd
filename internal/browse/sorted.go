package browse

import (
	"cmp"
	"context"
	"iter"
	"slices"
)

// sortBudget bounds the entries that Sorted keeps, in bytes.
const sortBudget = 16 << 20

// Sorted yields the entries of a directory in the order of their names' bytes,
// and an error at most once, as the last.
func (t *Tree) Sorted(ctx context.Context, path string) iter.Seq2[Entry, error] {
	return sorted(t.List(ctx, path), sortBudget)
}

// sorted sorts a listing that can be had again and again, and is the same each
// time. What does not fit into the budget is left to another pass; a listing that
// proves to be in order is handed on.
func sorted(list iter.Seq2[Entry, error], budget int) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		var done place // all up to here have been handed out
		for {
			part, more, inOrder, err := smallest(list, done, budget)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if more && inOrder && done.number == 0 {
				list(yield)
				return
			}
			for _, e := range part {
				if !yield(e.Entry, nil) {
					return
				}
			}
			if !more {
				return
			}
			done = part[len(part)-1].place
		}
	}
}

// place orders the entries of a directory, also those of the same name.
type place struct {
	name   string
	number int // from 1; 0 is before all
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.name, q.name), cmp.Compare(p.number, q.number))
}

type placed struct {
	place
	Entry
}

// smallest returns the first entries behind a place, sorted: at least one, and
// otherwise what fits into the budget. more says that there are more.
func smallest(list iter.Seq2[Entry, error], done place, budget int) (part []placed, more, inOrder bool, err error) {
	size, number := 0, 0
	var end place // what lies behind does not fit; zero while all does
	last := done
	inOrder = true
	for e, err := range list {
		if err != nil {
			return nil, false, false, err
		}
		number++
		at := place{e.Name, number}
		inOrder = inOrder && last.compare(at) < 0
		last = at
		if done.number != 0 && at.compare(done) <= 0 {
			continue
		}
		if end.number != 0 && at.compare(end) >= 0 {
			more = true
			continue
		}
		part = append(part, placed{at, e})
		if size += e.weight(); size > 2*budget {
			part, size = keepSmallest(part, budget)
			end, more = place{part[len(part)-1].name, part[len(part)-1].number + 1}, true
		}
	}
	slices.SortFunc(part, func(a, b placed) int { return a.compare(b.place) })
	return part, more, inOrder, nil
}

// keepSmallest sorts, and drops what does not fit into the budget.
func keepSmallest(part []placed, budget int) ([]placed, int) {
	slices.SortFunc(part, func(a, b placed) int { return a.compare(b.place) })
	size := 0
	for i := range part {
		w := part[i].weight()
		if i > 0 && size+w > budget {
			clear(part[i:])
			return part[:i], size
		}
		size += w
	}
	return part, size
}

// weight is about the bytes of memory that an entry takes.
func (e *Entry) weight() int {
	n := 300 + len(e.Name)
	if e.File == nil {
		return n
	}
	n += 200 + len(e.File.Target) + len(e.File.FCaps)
	for _, x := range e.File.Xattrs {
		n += 40 + len(x.Name) + len(x.Value)
	}
	if a := e.File.ACL; a != nil {
		n += 100 + 16*(len(a.Users)+len(a.Groups)+len(a.DefaultUsers)+len(a.DefaultGroups))
	}
	return n
}
