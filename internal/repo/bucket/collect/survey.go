package collect

import (
	"context"
	"errors"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
)

// patience is how many sparse packs must have come before shards are read for their
// sake alone.
const patience = 32

// maintain writes packs and indexes anew where that is worth it, prolongs locks, and
// removes what sessions left that came to nothing.
func (c *collector) maintain(ctx context.Context) error {
	all := c.refs.totals().Sparse >= uint64(c.root.Left)+patience
	candidates, due, err := c.survey(ctx, all)
	if err != nil {
		return err
	}
	chosen, more := c.limits().Rewrite(candidates)
	if c.opt.Repack < 0 {
		chosen = nil
	}
	if err := c.rewrite(ctx, chosen); err != nil {
		return err
	}
	if err := c.mergeIndexes(ctx); err != nil {
		return err
	}
	rewritten := map[pack.ID]bool{}
	for id := range c.out.moved {
		rewritten[id] = true
	}
	due = slices.DeleteFunc(due, func(p *packrefs.Pack) bool { return rewritten[p.ID] })
	if err := c.renew(ctx, due); err != nil {
		return err
	}
	if err := c.fold(ctx); err != nil {
		return err
	}
	switch c.left = uint32(min(c.refs.totals().Sparse, 1<<32-1)); {
	case more:
		c.left = 0
	case !all:
		c.left = min(c.left, c.root.Left)
	}
	if err := errors.Join(c.clocks(ctx), c.signs(ctx)); err != nil {
		return err
	}
	return c.tidy(ctx)
}

// survey finds the packs that might be written anew, and those whose locks end soon.
func (c *collector) survey(ctx context.Context, all bool) (candidates []plan.Candidate, due []*packrefs.Pack, err error) {
	for _, s := range c.refs.shards {
		late := s.Packs > s.Idle && c.soon(s.Until)
		if !s.changed && !late && (!all || s.Sparse == 0) {
			continue
		}
		for p, err := range c.refs.scan(ctx, s) {
			if err != nil {
				return nil, nil, err
			}
			_, needed := p.Needed()
			if p.Removed || needed == 0 {
				continue
			}
			soon := c.soon(p.Until)
			if soon {
				due = append(due, &packrefs.Pack{ID: p.ID, Until: p.Until})
			}
			// What is locked for long would only be there twice.
			free := soon || !c.now.Before(p.Until.Time())
			if free && c.limits().Sparse(int64(p.Size), needed) {
				candidates = append(candidates, plan.Candidate{ID: p.ID, Size: int64(p.Size), Needed: needed})
			}
		}
	}
	return candidates, due, nil
}

// soon reports whether less than half of the time is left for which objects are
// locked.
func (c *collector) soon(until packrefs.Day) bool {
	if c.days() <= 0 {
		return false
	}
	if int(c.root.Locked) < c.days() { // they are to be locked for longer than they were
		return true
	}
	left := int64(until) - 1 - int64(packrefs.DayOf(c.now))
	return 2*left < int64(c.days())
}
