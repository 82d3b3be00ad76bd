package pxar

import (
	"cmp"
	"math/bits"
	"slices"
)

// line is a line of a goodbye table, of a child or of the directory.
type line struct{ hash, back, size uint64 }

func parseLine(b []byte) line {
	return line{le.Uint64(b), le.Uint64(b[8:]), le.Uint64(b[16:])}
}

func (l line) append(dst []byte) []byte {
	return le.AppendUint64(le.AppendUint64(le.AppendUint64(dst, l.hash), l.back), l.size)
}

// child is what a Writer remembers of a child until its directory ends.
type child struct {
	hash  uint64
	start int64 // of its FILENAME item
	size  uint64
}

func sortChildren(c []child) {
	slices.SortFunc(c, func(a, b child) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.start, b.start))
	})
}

// rank returns which of n items in ascending order is stored in slot i of a
// complete binary search tree.
func rank(i, n int) int {
	last := bits.Len(uint(n)) - 1           // the last level; level l has 2^l slots
	level := bits.Len(uint(i)+1) - 1        // that of slot i
	inLevel := i + 1 - 1<<level             // and its place there
	full := (2*inLevel+1)<<(last-level) - 1 // its rank, were the last level full
	leaves := n - (1<<last - 1)             // the last level has so many, on the left
	// The leaves of a full tree have the even ranks: those that are missing and
	// would come before slot i do not count.
	return full - max(0, (full+1)/2-leaves)
}
