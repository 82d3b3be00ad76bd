package media

import (
	"errors"
	"hash/maphash"
	"math/bits"

	"github.com/holdfast-backup/holdfast/internal/digest"
)

// position is where a chunk is in the logs of a media set: the number of the
// medium in the upper 12 of 48 bits, and the offset of its record in the log.
type position uint64

const (
	offsetBits = 36
	maxOffset  = 1<<offsetBits - 1 // a log of 64 GiB, two thousand million chunks
	positions  = 1<<48 - 1
)

var errTooLong = errors.New("a catalog of more than 64 GiB is not possible")

func newPosition(member int, off int64) (position, error) {
	if off > maxOffset || member >= MaxMembers {
		return 0, errTooLong
	}
	return position(member)<<offsetBits | position(off), nil
}

func (p position) member() int   { return int(p >> offsetBits) }
func (p position) offset() int64 { return int64(p & maxOffset) }

// table says where the chunks of a media set may be. It has 8 bytes for a chunk
// and not its digest: who asks reads that at the position. A slot holds 16 bits
// of a hash above the position, and 0 if it is free: no record is at offset 0.
//
// What does not fit into a part goes into another one, as large as all before, so
// that nothing is ever moved. With a tenth of the slots free at least, a chunk
// takes 9 to 18 bytes.
type table struct {
	seed  maphash.Seed // chosen at random, so that nobody can make chunks that collide
	parts [][]uint64
	room  int // of the last part
	slots int // of all
}

// newTable makes a table with room for n chunks.
func newTable(n int) *table {
	t := &table{seed: maphash.MakeSeed()}
	t.grow(n)
	return t
}

func (t *table) grow(n int) {
	n = max(n, 1024)
	slots := n + n/8
	t.parts = append(t.parts, make([]uint64, slots))
	t.room, t.slots = n, t.slots+slots
}

func (t *table) add(d *digest.Digest, p position) {
	if t.room == 0 {
		t.grow(t.slots)
	}
	t.room--
	h := maphash.Bytes(t.seed, d[:])
	part := t.parts[len(t.parts)-1]
	i := start(h, len(part))
	for part[i] != 0 {
		if i++; i == len(part) {
			i = 0
		}
	}
	part[i] = h<<48 | uint64(p)
}

// find calls look with every position that d may have, until it reports true.
func (t *table) find(d *digest.Digest, look func(position) (bool, error)) error {
	h := maphash.Bytes(t.seed, d[:])
	for _, part := range t.parts {
		for i := start(h, len(part)); part[i] != 0; {
			if part[i]>>48 == h&0xffff {
				if done, err := look(position(part[i] & positions)); done || err != nil {
					return err
				}
			}
			if i++; i == len(part) {
				i = 0
			}
		}
	}
	return nil
}

// start spreads a hash over n slots by its upper bits; the lower ones are in the
// slot.
func start(h uint64, n int) int {
	hi, _ := bits.Mul64(h, uint64(n))
	return int(hi)
}
