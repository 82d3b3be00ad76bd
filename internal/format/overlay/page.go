package overlay

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// pageMagic is the start of SHA-256("Holdfast overlay map page v1.0").
var pageMagic = [8]byte{0xb4, 0xba, 0x9d, 0x9a, 0x1a, 0xba, 0xb7, 0xf9}

const (
	offSequence = 16
	offIndex    = 24
	offStates   = 32

	wordBlocks = 32 // states in a word
	words      = (PageSize - offStates) / 8

	// PageBlocks is how many blocks one map page covers, 63.5 MiB.
	PageBlocks = words * wordBlocks
)

// State says where the content of a block is.
type State uint8

// The states.
const (
	Base State = iota // in the image below
	Data              // in the data area
	Zero              // nowhere: it is all zero
)

func (s State) String() string {
	switch s {
	case Base:
		return "base"
	case Data:
		return "data"
	case Zero:
		return "zero"
	}
	return fmt.Sprintf("overlay.State(%d)", uint8(s))
}

// Page is a part of the map. The zero value has all blocks in the state Base
// and was never written.
type Page struct {
	Index    int64
	Sequence uint64
	states   [words]uint64
}

// lanes has a state in every block of a word.
func lanes(s State) uint64 { return uint64(s) * 0x5555555555555555 }

// State is that of block i (0 <= i < PageBlocks).
func (p *Page) State(i int) State { return State(p.states[i/wordBlocks] >> (i % wordBlocks * 2) & 3) }

// Run is the length of the run of one state that begins at block i, of at most
// most blocks (0 < most <= PageBlocks-i).
func (p *Page) Run(i, most int) (State, int) {
	s := p.State(i)
	want := lanes(s)
	for j := i; j < i+most; {
		rel := j % wordBlocks
		if d := (p.states[j/wordBlocks] ^ want) >> (2 * rel); d != 0 {
			return s, min(j+bits.TrailingZeros64(d)/2-i, most)
		}
		j += wordBlocks - rel
	}
	return s, most
}

// Set gives n blocks from i on a state.
func (p *Page) Set(i, n int, s State) {
	want := lanes(s)
	for end := i + n; i < end; {
		rel := i % wordBlocks
		k := min(wordBlocks-rel, end-i)
		mask := ^uint64(0) >> (64 - 2*k) << (2 * rel)
		w := &p.states[i/wordBlocks]
		*w = *w&^mask | want&mask
		i += k
	}
}

// Slot is where the page belongs, by its sequence.
func (p *Page) Slot() int { return int(p.Sequence & 1) }

// Append encodes the page, PageSize bytes.
func (p *Page) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, PageSize)...)
	b, le := dst[start:], binary.LittleEndian
	copy(b, pageMagic[:])
	le.PutUint64(b[offSequence:], p.Sequence)
	le.PutUint64(b[offIndex:], uint64(p.Index))
	for i, w := range p.states {
		le.PutUint64(b[offStates+8*i:], w)
	}
	seal(b)
	return dst
}

// parse fills p from a slot; it returns why it cannot.
func (p *Page) parse(b []byte, slot int, blocks int64) string {
	le := binary.LittleEndian
	switch {
	case [8]byte(b) != pageMagic:
		return fmt.Sprintf("magic %x", b[:8])
	case !sealed(b):
		return "wrong checksum"
	case le.Uint32(b[offSum:]) != 0:
		return "reserved bytes are set"
	case le.Uint64(b[offIndex:]) != uint64(p.Index):
		return fmt.Sprintf("it is page %d", le.Uint64(b[offIndex:]))
	}
	p.Sequence = le.Uint64(b[offSequence:])
	if p.Sequence == 0 || p.Slot() != slot {
		return fmt.Sprintf("sequence %d does not belong here", p.Sequence)
	}
	for i := range p.states {
		w := le.Uint64(b[offStates+8*i:])
		if w&(w>>1)&lanes(1) != 0 {
			return "a block has an illegal state"
		}
		p.states[i] = w
	}
	if end := blocks - p.Index*PageBlocks; end < PageBlocks {
		rest := PageBlocks - int(end)
		if s, n := p.Run(int(end), rest); s != Base || n != rest {
			return "a block behind the image's end has a state"
		}
	}
	return ""
}

// ChoosePage decodes the two slots of page index of a map for an image of that
// many blocks. The slots have PageSize bytes each.
func ChoosePage(slots [2][]byte, index, blocks int64) (*Page, error) {
	best, broken := &Page{Index: index}, [2]string{}
	for i, b := range slots {
		if allZero(b) {
			continue
		}
		p := &Page{Index: index}
		if broken[i] = p.parse(b, i, blocks); broken[i] == "" && p.Sequence > best.Sequence {
			best = p
		}
	}
	if broken[0] != "" && allZero(slots[1]) {
		broken[1] = "never written" // it is, before the first
	}
	if broken[0] != "" && broken[1] != "" {
		return nil, fmt.Errorf("%w: both slots of page %d are invalid (%s; %s)", ErrDamaged, index, broken[0], broken[1])
	}
	return best, nil
}
