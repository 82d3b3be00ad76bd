package plan

import (
	"iter"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
)

// Fold gives packs with the changes of a tally; ids are those of its packs that lie in
// the range, in order. A failure is the last thing that it gives.
func Fold(packs iter.Seq2[*packrefs.Pack, error], t *Tally, ids []pack.ID) iter.Seq2[*packrefs.Pack, error] {
	return func(yield func(*packrefs.Pack, error) bool) {
		emit := func(p *packrefs.Pack) bool {
			if c := t.packs[p.ID]; c != nil {
				if err := c.apply(p); err != nil {
					yield(nil, err)
					return false
				}
			}
			return yield(p, nil)
		}
		for p, err := range packs {
			if err != nil {
				yield(nil, err)
				return
			}
			for len(ids) > 0 && ids[0].Compare(p.ID) < 0 {
				if !emit(&packrefs.Pack{ID: ids[0]}) {
					return
				}
				ids = ids[1:]
			}
			if len(ids) > 0 && ids[0] == p.ID {
				ids = ids[1:]
			}
			if !emit(p) {
				return
			}
		}
		for _, id := range ids {
			if !emit(&packrefs.Pack{ID: id}) {
				return
			}
		}
	}
}

// Forgotten reports whether nothing needs to be known of a pack any more: it is
// removed and nobody names it.
func Forgotten(p *packrefs.Pack) bool { return p.Removed && p.Named == 0 }

// Idle reports whether a pack is there and nobody needs it.
func Idle(p *packrefs.Pack) bool {
	_, needed := p.Needed()
	return idle(p, needed)
}

// Add counts a pack, the last one so far, in the totals of its shard.
func (l Limits) Add(s *packrefs.Shard, p *packrefs.Pack) {
	s.Last = p.ID
	if p.Removed {
		return
	}
	chunks, needed := p.Needed()
	s.Packs++
	s.Bytes += uint64(p.Size)
	s.Chunks += uint64(chunks)
	s.Needed += uint64(needed)
	if idle(p, needed) {
		s.Idle++
		s.IdleBytes += uint64(p.Size)
		s.IdleChunks += uint64(len(p.Chunks))
		return // nobody prolongs its lock
	}
	if l.Sparse(int64(p.Size), needed) {
		s.Sparse++
	}
	if p.Until != 0 && (s.Until == 0 || p.Until < s.Until) {
		s.Until = p.Until
	}
}
