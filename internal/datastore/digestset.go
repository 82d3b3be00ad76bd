package datastore

import (
	"encoding/binary"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// digestSet remembers digests in a fixed amount of memory: 16 bytes of each,
// in a table where a newcomer replaces who sits in its place. It may forget,
// never invent: 128 equal bits of SHA-256 do not happen by chance.
type digestSet struct {
	slots [][2]uint64
}

// newDigestSet returns a set of n slots of 16 bytes; n is a power of two.
func newDigestSet(n int) *digestSet { return &digestSet{make([][2]uint64, n)} }

func (s *digestSet) place(d digest.Digest) (*[2]uint64, [2]uint64) {
	key := [2]uint64{binary.LittleEndian.Uint64(d[0:]), binary.LittleEndian.Uint64(d[8:])}
	return &s.slots[binary.LittleEndian.Uint64(d[16:])&uint64(len(s.slots)-1)], key
}

func (s *digestSet) has(d digest.Digest) bool {
	slot, key := s.place(d)
	return *slot == key && key != [2]uint64{}
}

func (s *digestSet) add(d digest.Digest) {
	slot, key := s.place(d)
	*slot = key
}
