// Package indexset answers which chunks some open indexes name.
//
// A [Set] holds for each index a hash table of places, which lead to the
// entries; these stay in the index file. It takes 5 to 10 bytes of memory for a
// chunk, 2 MiB for an image of 1 TiB, and is exact. The hash is seeded, so that
// nobody can make an index whose digests meet in one place, and a digest that
// is named again takes none.
//
// A Set is safe for concurrent use.
package indexset

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math"
	"math/bits"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
)

// Set is a number of open indexes, which it owns. The zero value is empty.
type Set struct {
	mu    sync.RWMutex
	parts []*part
}

// part is one index.
type part struct {
	closer io.Closer
	digest func(i int) (digest.Digest, error)
	length func(i int) (int64, error)
	seed   maphash.Seed
	places []uint32 // number of the chunk in the index, plus one; 0 is free
}

// AddFixed adds an index and takes it over, after an error too.
func (s *Set) AddFixed(x *fidx.Index, c io.Closer) error {
	p := &part{closer: c, digest: x.Digest, length: func(i int) (int64, error) {
		start, end := x.Bounds(i)
		return end - start, nil
	}}
	return s.add(p, x.Count(), x.Each)
}

// AddDynamic adds an index and takes it over, after an error too.
func (s *Set) AddDynamic(x *didx.Index, c io.Closer) error {
	p := &part{
		closer: c,
		digest: func(i int) (digest.Digest, error) {
			e, err := x.Entry(i)
			return e.Digest, err
		},
		length: func(i int) (int64, error) {
			start, end, err := x.Bounds(i)
			return end - start, err
		},
	}
	return s.add(p, x.Count(), func(f func(int, digest.Digest) error) error {
		return x.Each(func(i int, _, _ int64, d digest.Digest) error { return f(i, d) })
	})
}

func (s *Set) add(p *part, count int, each func(func(int, digest.Digest) error) error) error {
	if uint64(count) >= math.MaxUint32 {
		return errors.Join(fmt.Errorf("an index of %d chunks is too large", count), p.closer.Close())
	}
	p.seed = maphash.MakeSeed()
	p.places = make([]uint32, 1<<bits.Len(uint(count+count/4)))
	var last digest.Digest
	err := each(func(i int, d digest.Digest) error {
		if i > 0 && d == last { // zeros come in runs
			return nil
		}
		last = d
		at, there, err := p.find(d)
		if err == nil && !there {
			p.places[at] = uint32(i) + 1
		}
		return err
	})
	if err != nil {
		return errors.Join(err, p.closer.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts = append(s.parts, p)
	return nil
}

// find returns where a digest is, or where it would be.
func (p *part) find(d digest.Digest) (at int, there bool, err error) {
	at = int(maphash.Bytes(p.seed, d[:]) & uint64(len(p.places)-1))
	for p.places[at] != 0 {
		has, err := p.digest(int(p.places[at]) - 1)
		if err != nil || has == d {
			return at, err == nil, err
		}
		at = (at + 1) & (len(p.places) - 1)
	}
	return at, false, nil
}

// Length returns how many plain bytes a chunk has if one of the indexes names
// it.
func (s *Set) Length(d digest.Digest) (n int64, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, p := range s.parts {
		at, there, err := p.find(d)
		if err != nil {
			return 0, false, err
		}
		if there {
			n, err := p.length(int(p.places[at]) - 1)
			return n, err == nil, err
		}
	}
	return 0, false, nil
}

// Has reports whether one of the indexes names a chunk.
func (s *Set) Has(d digest.Digest) (bool, error) {
	_, ok, err := s.Length(d)
	return ok, err
}

// Close closes the indexes.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.parts {
		errs = append(errs, p.closer.Close())
	}
	s.parts = nil
	return errors.Join(errs...)
}
