package plan

import (
	"cmp"
	"slices"
)

// Index is one index, with the sessions whose packs are in it.
type Index struct {
	Key         string // of its record
	First, Last uint64
	Chunks      int64
	Packs       int64
	Void        int64 // packs that are marked as not there
}

// Void packs are told one by one in the state, so there are not too many of them.
const maxVoid = 4096

// stale reports whether an index is better written anew without the packs that are
// not there.
func (x Index) stale() bool { return x.Void >= x.Packs || x.Void > maxVoid || 8*x.Void > x.Packs+64 }

// Merge says which indexes are written anew: each list becomes one, without the
// packs that are not there. Neighbours in the order of the sessions are merged where
// one has no more chunks than all newer ones together; so after it each has more than
// all newer ones, and there are O(log n) of them, and a chunk is written O(log n) times
// while others come. A list of one is an index that only loses packs. No index gets more
// than limit chunks.
func Merge(all []Index, limit int64) [][]Index {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b Index) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Key, b.Key))
	})
	from := len(all) // the oldest that is merged, with all newer ones
	newer := int64(0)
	for i := len(all) - 1; i >= 0; i-- {
		if newer > 0 && all[i].Chunks <= newer {
			from = i
		}
		newer += all[i].Chunks
	}
	var plans [][]Index
	for _, x := range all[:from] {
		if x.stale() {
			plans = append(plans, []Index{x})
		}
	}
	var run []Index
	chunks := int64(0)
	for _, x := range all[from:] {
		if chunks+x.Chunks > limit && len(run) > 0 {
			plans = appendPlan(plans, run)
			run, chunks = nil, 0
		}
		run = append(run, x)
		chunks += x.Chunks
	}
	return appendPlan(plans, run)
}

// appendPlan leaves out what would only be copied.
func appendPlan(plans [][]Index, run []Index) [][]Index {
	if len(run) > 1 || len(run) == 1 && run[0].stale() {
		return append(plans, run)
	}
	return plans
}
