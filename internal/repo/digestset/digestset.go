// Package digestset remembers digests in a bounded amount of memory. A set may
// forget, so that something is looked at twice; it never invents.
package digestset

import (
	"hash/maphash"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// Set remembers 16 bytes of each digest, in a table that doubles up to its
// limit and where a newcomer then replaces who sits in its place. The 16 bytes are
// a hash of the whole digest under a random seed: what an index names need not be
// a digest, and a name that is half zeros, after a torn write, or that someone
// made up to look like another must not pass for that other. It is not safe for
// concurrent use.
type Set struct {
	seeds [2]maphash.Seed
	slots [][2]uint64
	used  int
	limit int // slots
}

// New returns a set of at most limit slots of 16 bytes; limit is a
// power of two.
func New(limit int) *Set {
	return &Set{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		slots: make([][2]uint64, min(256, limit)), limit: limit,
	}
}

func (s *Set) keyOf(d digest.Digest) [2]uint64 {
	return [2]uint64{maphash.Bytes(s.seeds[0], d[:]), maphash.Bytes(s.seeds[1], d[:])}
}

// probes is how many places a key may sit in.
const probes = 8

// slot is where a key sits, or else a place for it: a free one, or one whose
// owner has to go.
func (s *Set) slot(key [2]uint64) *[2]uint64 {
	mask := uint64(len(s.slots) - 1)
	home := key[1] >> 8
	for i := range uint64(probes) {
		slot := &s.slots[(home+i)&mask]
		if *slot == key || *slot == [2]uint64{} {
			return slot
		}
	}
	return &s.slots[(home+key[0]%probes)&mask]
}

// Has reports whether the set remembers d.
func (s *Set) Has(d digest.Digest) bool {
	key := s.keyOf(d)
	return *s.slot(key) == key && key != [2]uint64{}
}

// Add remembers d.
func (s *Set) Add(d digest.Digest) {
	if s.used > len(s.slots)/2 && len(s.slots) < s.limit {
		s.grow()
	}
	s.place(s.keyOf(d))
}

func (s *Set) place(key [2]uint64) {
	slot := s.slot(key)
	if *slot == [2]uint64{} {
		s.used++
	}
	*slot = key
}

func (s *Set) grow() {
	old := s.slots
	s.slots, s.used = make([][2]uint64, 2*len(old)), 0
	for _, key := range old {
		if key != [2]uint64{} {
			s.place(key)
		}
	}
}
