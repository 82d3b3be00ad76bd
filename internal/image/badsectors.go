package image

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Range is a run of bytes.
type Range struct {
	Offset, Length int64
}

// End is the first byte behind the range.
func (r Range) End() int64 { return r.Offset + r.Length }

// BadSectors reads an image that has unreadable sectors: where a read fails
// with an input/output error it tries again in halves down to one sector, puts
// zeros in place of the sectors that stay unreadable, and notes them. Every
// other error passes through.
//
// The zeros are made up. Who uses this filter must show [BadSectors.Found].
type BadSectors struct {
	img    Image
	sector int64
	limit  int

	mu    sync.Mutex
	bad   []Range // sorted, disjoint, at most limit
	total int64   // bytes, those that found no place in bad included
	full  bool
}

var (
	_ Image    = (*BadSectors)(nil)
	_ Extenter = (*BadSectors)(nil)
)

// The defaults of [NewBadSectors]: what disks and page caches read in one
// piece, and a list that stays below 32 KiB.
const (
	DefaultSector    = 4096
	DefaultBadRanges = 2000
)

// NewBadSectors filters img. sector is the unit that is given up, a power of
// two; limit bounds the list of ranges. Zero means the default for both.
func NewBadSectors(img Image, sector int64, limit int) (*BadSectors, error) {
	if sector == 0 {
		sector = DefaultSector
	}
	if limit == 0 {
		limit = DefaultBadRanges
	}
	if sector < 1 || sector&(sector-1) != 0 || limit < 1 {
		return nil, fmt.Errorf("image: sector of %d bytes and %d ranges make no filter for bad sectors", sector, limit)
	}
	return &BadSectors{img: img, sector: sector, limit: limit}, nil
}

// Size is that of the image below.
func (b *BadSectors) Size() int64 { return b.img.Size() }

// ExtentAt passes the question on.
func (b *BadSectors) ExtentAt(off int64) (Extent, error) { return ExtentAt(b.img, off) }

// WillNeed passes the hint on.
func (b *BadSectors) WillNeed(off, n int64) { WillNeed(b.img, off, n) }

// ReadAt reads, with zeros where the medium cannot be read.
func (b *BadSectors) ReadAt(p []byte, off int64) (int, error) {
	return ReadWithin(p, off, b.Size(), b.read)
}

func (b *BadSectors) read(p []byte, off int64) (int, error) {
	n, err := b.img.ReadAt(p, off)
	if n == len(p) {
		return n, nil
	}
	if !isMediumError(err) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // only bytes below Size were asked for
		}
		return n, err
	}
	end := off + int64(len(p))
	first, last := off/b.sector, (end-1)/b.sector
	if first == last {
		clear(p)
		b.note(Range{off, end - off})
		return len(p), nil
	}
	mid := (first + (last-first+1)/2) * b.sector
	n, err = b.read(p[:mid-off], off)
	if err != nil {
		return n, err
	}
	m, err := b.read(p[mid-off:], mid)
	return n + m, err
}

// note merges r into the list.
func (b *BadSectors) note(r Range) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, _ := slices.BinarySearchFunc(b.bad, r.Offset, func(x Range, off int64) int {
		if x.End() < off { // a range that only touches is merged
			return -1
		}
		return 1
	})
	j := i
	merged := r
	var known int64
	for ; j < len(b.bad) && b.bad[j].Offset <= r.End(); j++ {
		x := b.bad[j]
		known += x.Length
		end := max(merged.End(), x.End())
		merged.Offset = min(merged.Offset, x.Offset)
		merged.Length = end - merged.Offset
	}
	if i == j && len(b.bad) == b.limit {
		b.full = true
		b.total += r.Length
		return
	}
	b.total += merged.Length - known
	b.bad = slices.Replace(b.bad, i, j, merged)
}

// Found is what was replaced by zeros so far.
func (b *BadSectors) Found() Damage {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Damage{Ranges: slices.Clone(b.bad), Total: b.total, More: b.full}
}

// Damage lists unreadable ranges.
type Damage struct {
	Ranges []Range // sorted and disjoint
	Total  int64   // bytes; where More is set, a sector read twice may count twice
	More   bool    // there were more ranges than the list holds
}

// isMediumError reports an error that means these sectors, not this image.
func isMediumError(err error) bool {
	for _, e := range mediumErrors {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
