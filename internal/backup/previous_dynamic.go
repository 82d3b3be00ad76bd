package backup

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
)

// Known answers which chunks the same archive of the previous snapshot has.
// Chunks move when something is inserted before them, so a place says nothing: a
// hash table of places leads to the entries, which stay in the file. It takes 5
// to 10 bytes a chunk, 2 MiB for a TiB of the usual chunks, and knows the first
// 4 Mi chunks, 16 TiB. What it does not know costs a question to the session. A nil
// Known knows nothing.
type Known struct {
	idx    *didx.Index
	closer io.Closer
	places []uint32 // of the chunk in the index, plus one; 0 is free
	shift  int
}

const maxPlaces = 4 << 20 // 32 MiB

// PreviousDynamic opens the index of the same archive in the previous snapshot,
// if its chunks may be reused, for [Dynamic.Inject] among others. If idx is nil,
// why says the reason; it is "" when there is no previous snapshot.
func (w *Writer) PreviousDynamic(name names.Archive) (idx *didx.Index, closer io.Closer, why string) {
	snap, why := w.previousOf(name)
	if snap == nil {
		return nil, nil, why
	}
	idx, closer, err := snap.OpenDynamic(name)
	if err != nil {
		return nil, nil, fmt.Sprintf("%s: %v", snap.Name(), err)
	}
	return idx, closer, ""
}

// Known opens the index of the same archive in the previous snapshot, if it is of
// use; if not, it returns nil and why. Close must be called.
func (w *Writer) Known(name names.Archive) (*Known, string) {
	idx, closer, why := w.PreviousDynamic(name)
	if idx == nil {
		return nil, why
	}
	known := min(idx.Count(), maxPlaces)
	width := max(1, bits.Len(uint(known+known/4)))
	p := &Known{idx: idx, closer: closer, places: make([]uint32, 1<<width), shift: 64 - width}
	var last digest.Digest
	err := idx.Each(func(i int, _, _ int64, d digest.Digest) error {
		if i < known && (i == 0 || d != last) { // a sparse file names one chunk again and again
			last = d
			at := p.home(d)
			for p.places[at] != 0 {
				at = (at + 1) % len(p.places)
			}
			p.places[at] = uint32(i) + 1
		}
		return nil
	})
	if err != nil {
		p.Close()
		return nil, err.Error()
	}
	return p, ""
}

// Close closes the index.
func (p *Known) Close() {
	if p != nil {
		_ = p.closer.Close() // was only read
	}
}

// home is where the search for a digest begins. Digests are random enough, but
// those of one prefix must not meet.
func (p *Known) home(d digest.Digest) int {
	const golden = 0x9e3779b97f4a7c15
	return int((binary.LittleEndian.Uint64(d[:]) ^ binary.LittleEndian.Uint64(d[16:])) * golden >> p.shift)
}

// Has reports whether the previous archive has that chunk.
func (p *Known) Has(d digest.Digest, length int) (bool, error) {
	if p == nil {
		return false, nil
	}
	for at := p.home(d); p.places[at] != 0; at = (at + 1) % len(p.places) {
		i := int(p.places[at]) - 1
		e, err := p.idx.Entry(i)
		if err != nil {
			return false, fmt.Errorf("previous index: %w", err)
		}
		if e.Digest != d {
			continue
		}
		start, end, err := p.idx.Bounds(i)
		if err != nil {
			return false, fmt.Errorf("previous index: %w", err)
		}
		return end-start == int64(length), nil
	}
	return false, nil
}
