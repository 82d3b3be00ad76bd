// Package plan decides for the garbage collection of a bucket: how counts change,
// what nobody needs, what is written anew, which indexes are merged. It works on
// values alone.
//
// # Counts
//
// A chunk of a pack has the number of snapshots whose chunk maps lead to it. Where a
// map leads to a pack that was written anew, the chunk is counted where it lies
// now; what has no place there is counted in the old pack. So a pack is needed if one of its
// chunks has a count, and can be removed if none has, even while maps name it.
//
// Beside that, a pack has the number of those that name it: chunk maps, and packs written
// anew whose chunks went there. While a moved pack is named, it must be known where its
// chunks went.
//
// Changes are collected in a [Tally], as differences, and folded into the shards by
// [Fold]. A count never becomes negative: that is [ErrCounts], and the counts have
// to be taken from nothing.
package plan

import (
	"errors"

	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
)

// ErrCounts is wrapped when changes do not fit the counts.
var ErrCounts = errors.New("the counts of references do not fit the snapshots")

// Limits say what is worth writing anew. The zero value finds nothing sparse.
type Limits struct {
	PackSize int64 // that packs are filled to
	Budget   int64 // bytes of chunks to copy in one collection
}

// idle reports whether a pack is there and nobody needs it.
func idle(p *packrefs.Pack, needed int64) bool { return !p.Removed && needed == 0 }

// wasteful reports whether a pack of which so many bytes are needed holds much that
// nobody needs.
func (l Limits) wasteful(size, needed int64) bool {
	return needed > 0 && 2*needed < size && size-needed >= l.PackSize/16
}

// small reports whether a pack is one of those that are better put together.
func (l Limits) small(size, needed int64) bool {
	return needed > 0 && size < l.PackSize/4 && !l.wasteful(size, needed)
}

// Sparse reports whether a pack is one that might be written anew.
func (l Limits) Sparse(size, needed int64) bool {
	return l.wasteful(size, needed) || l.small(size, needed)
}
