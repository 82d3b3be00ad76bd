package collect

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// listAll lists everything that sessions wrote, where everything is counted anew. It finds
// what the state does not know of.
func (c *collector) listAll(ctx context.Context) error {
	for id := range c.at.moved {
		if c.at.dropping[id] {
			continue
		}
		if err := c.nameTargets(ctx, id, 1); err != nil {
			return err
		}
	}
	named := c.named()
	for o, err := range objstore.All(ctx, c.store, "s/", "") {
		if err != nil {
			return err
		}
		session, _, _ := strings.Cut(strings.TrimPrefix(o.Key, "s/"), "/")
		n, err := catalog.ParseNumber(session)
		if err != nil {
			c.warn("object %s is none of a repository, and stays", o.Key)
			continue
		}
		_, running := c.at.running[n]
		_, ended := c.at.ended[n]
		if running || ended || n > c.at.seq {
			continue
		}
		_, isPack := packOf(n, o.Key)
		if isPack || named[o.Key] {
			c.found(n, o)
		} else if c.now.Sub(o.Modified) >= old {
			c.out.objects[o.Key] = c.lockOf(o)
		}
	}
	return nil
}

// named are the keys of objects that the state names; packs are not among them.
func (c *collector) named() map[string]bool {
	all := map[string]bool{c.at.last.State: true}
	for n := range c.at.snapshots {
		all[catalog.SnapshotObject(n)], all[catalog.LogObject(n)] = true, true
	}
	for n := range c.at.gone {
		all[catalog.SnapshotObject(n)], all[catalog.LogObject(n)] = true, true
	}
	for key := range c.at.runs {
		if n, i, err := runOf(key); err == nil {
			all[catalog.IndexKey(n, i)] = true
		}
	}
	for _, m := range c.at.moved {
		all[m.In] = true
	}
	for _, list := range c.at.dead {
		for _, key := range list.Objects {
			all[key] = true
		}
	}
	for _, s := range c.before.Shards {
		all[s.Key] = true
	}
	return all
}

// compare says how far counts that were kept are from those that were taken from
// nothing.
func (c *collector) compare(ctx context.Context, kept *refs) error {
	type side struct {
		next func() (*packrefs.Pack, error, bool)
		p    *packrefs.Pack
	}
	wrong, example := 0, pack.ID{}
	a, stopA := pull(kept.packs(ctx, kept.shards))
	defer stopA()
	b, stopB := pull(c.refs.packs(ctx, c.refs.shards))
	defer stopB()
	x, y := side{next: a}, side{next: b}
	step := func(s *side) (err error) {
		for {
			p, err, ok := s.next()
			if s.p = p; err != nil || !ok {
				return err
			}
			if n, _ := p.Needed(); n > 0 || p.Named > 0 {
				return nil
			}
		}
	}
	if err := step(&x); err != nil {
		return err
	}
	if err := step(&y); err != nil {
		return err
	}
	for x.p != nil || y.p != nil {
		order := 0
		switch {
		case x.p == nil:
			order = 1
		case y.p == nil:
			order = -1
		default:
			order = x.p.ID.Compare(y.p.ID)
		}
		if order != 0 || !same(x.p, y.p) {
			if wrong++; wrong == 1 {
				example = first(x.p, y.p, order).ID
			}
		}
		if order <= 0 {
			if err := step(&x); err != nil {
				return err
			}
		}
		if order >= 0 {
			if err := step(&y); err != nil {
				return err
			}
		}
	}
	if wrong > 0 {
		c.warn("the counts of %d packs were wrong, as those of %s; they are right now", wrong, example)
	}
	return nil
}

func first(x, y *packrefs.Pack, order int) *packrefs.Pack {
	if order <= 0 {
		return x
	}
	return y
}

// same reports whether two counts of a pack agree in what is needed.
func same(x, y *packrefs.Pack) bool {
	needed := func(p *packrefs.Pack) []packrefs.Chunk {
		return slices.DeleteFunc(slices.Clone(p.Chunks), func(k packrefs.Chunk) bool { return k.Count == 0 })
	}
	return x.Named == y.Named && slices.Equal(needed(x), needed(y))
}
