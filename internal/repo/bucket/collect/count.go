package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/plan"
)

// inFlight is how many requests are made at a time.
const inFlight = 32

// maxChanges is how many changes of chunks are held before they are folded into the
// shards: 24 to 48 MiB.
const maxChanges = 2 << 20

// difference is a snapshot that came or went.
type difference struct {
	session catalog.Number
	at      catalog.Span
	name    string
	n       int64 // 1: it came, -1: it went
}

// changes are the snapshots to count.
func (c *collector) changes() (all []difference, err error) {
	for _, n := range slices.Sorted(maps.Keys(c.at.snapshots)) {
		if s := c.at.snapshots[n]; !c.root.Counts(uint64(n)) {
			all = append(all, difference{n, s.Map, s.name, 1})
		}
	}
	for _, s := range c.root.Snapshots {
		n := catalog.Number(s.Session)
		if c.at.snapshots[n] != nil {
			continue
		}
		g, ok := c.at.gone[n]
		if !ok {
			return nil, fmt.Errorf("%w: the snapshot of session %s vanished without a trace", plan.ErrCounts, n)
		}
		all = append(all, difference{n, g.Map, "a snapshot that was forgotten", -1})
	}
	return all, nil
}

// fetched is the chunk map of a snapshot, or why there is none.
type fetched struct {
	of  difference
	m   *chunkMap
	err error
}

// ahead is how many chunk maps are fetched, or wait to be counted.
const ahead = 16

// count reads the chunk maps of the snapshots that came or went.
func (c *collector) count(ctx context.Context) error {
	all, err := c.changes()
	if err != nil {
		return err
	}
	get := func(ctx context.Context, d difference) fetched {
		m, err := fetchMap(ctx, c.store, d.session, d.at)
		return fetched{d, m, err}
	}
	return inOrder(ctx, all, ahead, get, func(ctx context.Context, next <-chan chan fetched) error {
		err := c.countAll(ctx, next, len(all))
		for one := range next { // those that nobody wants any more
			if f := <-one; f.m != nil {
				err = errors.Join(err, f.m.close())
			}
		}
		return err
	})
}

// countAll counts what comes, in the order in which it was asked for: what came before
// what went.
func (c *collector) countAll(ctx context.Context, next <-chan chan fetched, total int) error {
	done := 0
	for one := range next {
		c.progress("mark", done, total, "indexes")
		f := <-one
		if err := c.countOne(ctx, f); err != nil {
			return err
		}
		done++
		if c.tally.Chunks() >= maxChanges {
			if err := c.fold(ctx); err != nil {
				return err
			}
		}
	}
	c.progress("mark", done, total, "indexes")
	return nil
}

func (c *collector) countOne(ctx context.Context, f fetched) error {
	if f.err != nil {
		return c.uncounted(ctx, f.of, f.err)
	}
	err := c.countMap(ctx, f.m, f.of.n)
	if err := errors.Join(err, f.m.close()); err != nil {
		return fmt.Errorf("count %s: %w", f.of.name, err)
	}
	return nil
}

// uncounted says what follows from a chunk map that could not be read.
func (c *collector) uncounted(ctx context.Context, d difference, err error) error {
	switch {
	case !errors.Is(err, errUncounted):
		return errors.Join(err, context.Cause(ctx))
	case d.n < 0: // nobody knows what it referred to
		return fmt.Errorf("%w: %w", plan.ErrCounts, err)
	}
	c.unknown[d.session] = true
	c.warn("snapshot %s needs packs of which nobody knows, because %v; no pack is condemned until it is mended or forgotten", d.name, err)
	return nil
}

func (c *collector) countMap(ctx context.Context, m *chunkMap, n int64) error {
	packs := make([]pack.ID, 0, len(m.Packs()))
	for _, p := range m.Packs() {
		c.tally.Name(p.ID, p.Size, n)
		packs = append(packs, p.ID)
	}
	if err := c.moves.prepare(ctx, packs); err != nil {
		return err
	}
	err := m.Each(func(_ [16]byte, at pack.Location) error {
		at, err := c.moves.now(ctx, at)
		if err == nil {
			c.tally.Count(at, int32(n))
		}
		return err
	})
	if err != nil || !c.full {
		return err
	}
	return c.countBad(ctx, m)
}

// countBad finds the damaged chunks that a snapshot needs where they are damaged.
func (c *collector) countBad(ctx context.Context, m *chunkMap) error {
	for d, b := range c.at.bad {
		at, ok, err := m.Find(d)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if at, err = c.moves.now(ctx, at); err != nil {
			return err
		}
		sound, err := c.moves.now(ctx, b.Place())
		if err != nil {
			return err
		}
		if b.Lost() || at != sound {
			c.used[d] = true
		}
	}
	return nil
}

// countSound counts the places of sound copies of damaged chunks, as those of a
// snapshot.
func (c *collector) countSound(ctx context.Context) error {
	want := map[packrefs.Sound]bool{}
	for d, b := range c.at.bad {
		if !b.Lost() {
			want[packrefs.Sound{Digest: d, Location: b.Place()}] = true
		}
	}
	change := func(s packrefs.Sound, n int64) error {
		at, err := c.moves.now(ctx, s.Location)
		if err == nil {
			c.tally.Name(s.Pack, 0, n)
			c.tally.Count(at, int32(n))
		}
		return err
	}
	for _, s := range c.root.Sound {
		if want[s] {
			delete(want, s)
			c.sound = append(c.sound, s)
		} else if err := change(s, -1); err != nil {
			return err
		}
	}
	for s := range want {
		c.sound = append(c.sound, s)
		if err := change(s, 1); err != nil {
			return err
		}
	}
	slices.SortFunc(c.sound, func(a, b packrefs.Sound) int { return strings.Compare(string(a.Digest[:]), string(b.Digest[:])) })
	return nil
}

// discover lists what sessions wrote that succeeded since the last collection.
func (c *collector) discover(ctx context.Context) error {
	fresh := map[catalog.Number]bool{}
	for n := range c.at.snapshots {
		if !c.root.Counts(uint64(n)) {
			fresh[n] = true
		}
	}
	for key := range c.at.runs {
		n, _, err := runOf(key)
		if err != nil {
			return err
		}
		if _, ok := slices.BinarySearch(c.root.Indexed, uint64(n)); !ok {
			fresh[n] = true
		}
	}
	sessions := slices.Sorted(maps.Keys(fresh))
	lists := make([][]objstore.Info, len(sessions))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i, n := range sessions {
		g.Go(func() error {
			for o, err := range objstore.All(gctx, c.store, catalog.SessionDir(n), "") {
				if err != nil {
					return fmt.Errorf("list what session %s wrote: %w", n, err)
				}
				lists[i] = append(lists[i], o)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, n := range sessions {
		for _, o := range lists[i] {
			c.found(n, o)
		}
	}
	return nil
}

// found notes an object of a session that succeeded.
func (c *collector) found(n catalog.Number, o objstore.Info) {
	until := c.lockOf(o)
	name := strings.TrimPrefix(o.Key, catalog.SessionDir(n))
	switch {
	case name == "snapshot":
		c.until[n] = until
	case strings.HasPrefix(name, "p"):
		if i, err := strconv.ParseUint(name[1:], 16, 32); err == nil && o.Size < pack.MaxSize {
			c.tally.There(pack.ID{Session: uint64(n), Number: uint32(i)}, uint32(o.Size), until)
		}
	default:
		c.locked[o.Key] = until
	}
}

// buried notes what is not there any more, by the lists of earlier collections.
func (c *collector) buried() {
	for key, list := range c.at.dead {
		if !list.Removed {
			continue
		}
		c.out.removed[key] = list.Packs
		for _, id := range list.Packs {
			c.tally.Remove(id)
			c.void[id] = true
		}
	}
}

// fold brings what is in the tally into the shards, until nothing follows from that any more:
// a pack that moved and that nobody names does not need the places to which it moved.
func (c *collector) fold(ctx context.Context) error {
	for c.tally.Packs() > 0 {
		forgotten, err := c.refs.fold(ctx, &c.tally)
		if err != nil {
			return err
		}
		c.tally = plan.Tally{}
		for _, id := range forgotten {
			if _, ok := c.moves.moved[id]; !ok || c.at.dropping[id] {
				continue
			}
			if err := c.nameTargets(ctx, id, -1); err != nil {
				return err
			}
			delete(c.moves.moved, id)
			c.out.forgotten = append(c.out.forgotten, id)
		}
	}
	return nil
}
