package verify

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Placer is a Snapshot that knows where its chunks lie. They are read in the
// order of their places, and one that lies in two places is read in both.
type Placer interface {
	Place(ctx context.Context, d digest.Digest) (Place, error)
	// Ahead is how many chunks are worth announcing at a time, so that none is
	// waited for.
	Ahead() int
}

// Place is where a chunk lies; places that are near are read together. The zero
// place is that of a chunk of which nothing is known.
type Place [20]byte

// window is how many entries of an index are sorted by their places at a time:
// 256 GiB of a disk image with fixed chunks.
const window = 1 << 16

// placed is a part of an index in the order of places.
type placed []chunkRef

func (p placed) Count() int                    { return len(p) }
func (p placed) Chunk(i int) (chunkRef, error) { return p[i], nil }
func (p placed) sort()                         { slices.SortStableFunc(p, chunkRef.compare) }
func (r chunkRef) compare(other chunkRef) int  { return bytes.Compare(r.place[:], other.place[:]) }

// arrange puts the entries from first on into p, sorted.
func arrange(ctx context.Context, p placed, from Placer, list chunkList, first int) (placed, error) {
	p = p[:0]
	for i := first; i < min(first+window, list.Count()); i++ {
		ref, err := list.Chunk(i)
		if err != nil {
			return p, fmt.Errorf("entry %d: %w", i, err)
		}
		if ref.place, err = from.Place(ctx, ref.digest); err != nil {
			return p, fmt.Errorf("where chunk %s lies: %w", ref.digest, err)
		}
		p = append(p, ref)
	}
	p.sort()
	return p, nil
}
