package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
)

// Tally collects changes of counts. It holds 12 bytes for each different chunk that changes,
// and up to twice that for those that change often.
type Tally struct {
	packs map[pack.ID]*change
	steps int
}

// change is that of one pack.
type change struct {
	size    uint32       // 0: not told
	until   packrefs.Day // 0: not told
	named   int64
	removed bool
	steps   []step
	tidy    int // steps at the beginning that are in order, none twice
}

// step is the change of one chunk.
type step struct {
	off, len uint32
	n        int32
}

func (t *Tally) of(id pack.ID) *change {
	c := t.packs[id]
	if c == nil {
		if t.packs == nil {
			t.packs = map[pack.ID]*change{}
		}
		c = &change{}
		t.packs[id] = c
	}
	return c
}

// Name says that n more name a pack of a size; 0: it is not known.
func (t *Tally) Name(id pack.ID, size uint32, n int64) {
	c := t.of(id)
	c.named += n
	c.size = max(c.size, size)
}

// Count says that n more need the chunk at a place.
func (t *Tally) Count(at pack.Location, n int32) {
	c := t.of(at.Pack)
	c.steps = append(c.steps, step{at.Off, at.Len, n})
	t.steps++
	if len(c.steps) >= 2*c.tidy+64 {
		before := len(c.steps)
		c.sort()
		t.steps -= before - len(c.steps)
	}
}

// There says that the object of a pack is there, and until when it is locked.
func (t *Tally) There(id pack.ID, size uint32, until packrefs.Day) {
	c := t.of(id)
	c.size, c.until = max(c.size, size), max(c.until, until)
}

// Remove says that the object of a pack is not there any more.
func (t *Tally) Remove(id pack.ID) { t.of(id).removed = true }

// Lock says until when a pack is locked now.
func (t *Tally) Lock(id pack.ID, until packrefs.Day) { t.of(id).until = until }

// Chunks is how many changes of chunks are held.
func (t *Tally) Chunks() int { return t.steps }

// Packs is how many packs change.
func (t *Tally) Packs() int { return len(t.packs) }

// IDs are the packs that change, in order.
func (t *Tally) IDs() []pack.ID {
	return slices.SortedFunc(maps.Keys(t.packs), pack.ID.Compare)
}

// sort brings the steps in order and joins those of the same chunk.
func (c *change) sort() {
	slices.SortFunc(c.steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.off, b.off), cmp.Compare(a.len, b.len)) })
	n := 0
	for _, s := range c.steps {
		if n > 0 && c.steps[n-1].off == s.off && c.steps[n-1].len == s.len {
			c.steps[n-1].n += s.n
			continue
		}
		c.steps[n] = s
		n++
	}
	c.steps = c.steps[:n]
	c.tidy = n
}

// apply changes what is known of a pack. Its chunks are replaced, not changed.
func (c *change) apply(p *packrefs.Pack) error {
	named := int64(p.Named) + c.named
	if named < 0 || named > 1<<32-1 {
		return fmt.Errorf("%w: pack %s would be named by %d", ErrCounts, p.ID, named)
	}
	p.Named = uint32(named)
	if p.Size == 0 {
		p.Size = c.size
	}
	if c.until != 0 {
		p.Until = c.until
	}
	if c.removed {
		p.Removed = true
	}
	c.sort()
	if len(c.steps) == 0 {
		return nil
	}
	all := make([]packrefs.Chunk, 0, len(p.Chunks)+len(c.steps))
	old := p.Chunks
	for _, s := range c.steps {
		for len(old) > 0 && old[0].Off < s.off {
			all = append(all, old[0])
			old = old[1:]
		}
		chunk := packrefs.Chunk{Off: s.off, Len: s.len}
		if len(old) > 0 && old[0].Off == s.off && old[0].Len == s.len {
			chunk.Count = old[0].Count
			old = old[1:]
		}
		count := int64(chunk.Count) + int64(s.n)
		if count < 0 || count > 1<<32-1 {
			return fmt.Errorf("%w: the chunk at %d of pack %s would be needed by %d", ErrCounts, s.off, p.ID, count)
		}
		chunk.Count = uint32(count)
		all = append(all, chunk)
	}
	p.Chunks = append(all, old...)
	return nil
}
