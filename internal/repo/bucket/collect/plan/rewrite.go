package plan

import (
	"cmp"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
)

// Candidate is a pack that might be written anew.
type Candidate struct {
	ID     pack.ID
	Size   int64
	Needed int64 // bytes of the chunks that somebody needs
}

// enough small packs are put together even where they do not fill one.
const enough = 64

// Rewrite says which packs are written anew, in the order of their names, so that what
// lies together stays together. more reports whether others would be, but for the budget.
//
// A pack that holds much which nobody needs is written anew because of the space,
// those first of which most becomes free for what is copied. Small packs are put
// together when they fill a pack, or when there are many: else the same chunks would
// be copied again and again.
func (l Limits) Rewrite(all []Candidate) (chosen []Candidate, more bool) {
	var wasteful, small []Candidate
	filled := int64(0)
	for _, c := range all {
		switch {
		case l.wasteful(c.Size, c.Needed):
			wasteful = append(wasteful, c)
			filled += c.Needed
		case l.small(c.Size, c.Needed):
			small = append(small, c)
			filled += c.Needed
		}
	}
	slices.SortFunc(wasteful, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(float64(a.Needed)/float64(a.Size), float64(b.Needed)/float64(b.Size)), a.ID.Compare(b.ID))
	})
	slices.SortFunc(small, func(a, b Candidate) int { return a.ID.Compare(b.ID) })
	if filled < l.PackSize && len(small) < enough {
		small = nil
	}
	left := l.Budget
	for _, c := range slices.Concat(wasteful, small) {
		if c.Needed > left {
			more = true
			continue
		}
		left -= c.Needed
		chosen = append(chosen, c)
	}
	slices.SortFunc(chosen, func(a, b Candidate) int { return a.ID.Compare(b.ID) })
	if len(chosen) == 1 && !l.wasteful(chosen[0].Size, chosen[0].Needed) {
		chosen = nil // a small one alone becomes no larger
	}
	return chosen, more
}
