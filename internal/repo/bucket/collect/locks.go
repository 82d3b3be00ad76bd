package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/packrefs"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// renewal is an object whose lock is to be prolonged.
type renewal struct {
	key  string
	done func(until packrefs.Day) // called when it is
}

// renew prolongs the locks of what is needed, where less than half of the time is
// left: of these packs, of the objects of snapshots, of the log, and of what the state names.
func (c *collector) renew(ctx context.Context, packs []*packrefs.Pack) error {
	for _, s := range c.before.Snapshots {
		if n := catalog.Number(s.Session); c.at.snapshots[n] != nil {
			c.until[n] = max(c.until[n], s.Until)
		}
	}
	if c.days() <= 0 {
		return nil
	}
	if err := c.lockable(ctx); err != nil {
		return err
	}
	var all []renewal
	for _, p := range packs {
		all = append(all, renewal{p.ID.Key(), func(until packrefs.Day) { c.tally.Lock(p.ID, until) }})
	}
	for n, s := range c.at.snapshots {
		if !c.soon(c.until[n]) {
			continue
		}
		all = append(all, renewal{catalog.SnapshotObject(n), func(until packrefs.Day) { c.until[n] = until }})
		if s.Log != 0 {
			all = append(all, renewal{catalog.LogObject(n), func(packrefs.Day) {}})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.locked)) {
		if c.soon(c.locked[key]) {
			all = append(all, renewal{key, func(until packrefs.Day) { c.locked[key] = until }})
		}
	}
	return c.prolong(ctx, all)
}

// lockable finds the objects besides packs and snapshots that are to stay locked, and until
// when they are; 0: nobody knows.
func (c *collector) lockable(ctx context.Context) error {
	for _, o := range c.before.Objects {
		c.locked[o.Key] = max(c.locked[o.Key], o.Until)
	}
	live := map[string]bool{catalog.MarkerKey: true}
	for key := range c.at.runs {
		n, i, err := runOf(key)
		if err != nil {
			return err
		}
		live[catalog.IndexKey(n, i)] = !slices.Contains(c.out.replaced, key)
	}
	for key := range c.out.runs {
		n, i, err := runOf(key)
		if err != nil {
			return err
		}
		live[catalog.IndexKey(n, i)] = true
	}
	for key := range c.listsOfMoves() {
		live[key] = true
	}
	for _, s := range c.refs.shards {
		if !s.changed {
			live[s.Key] = true
		}
	}
	if c.at.last.State != "" {
		live[c.at.last.State] = true
	}
	logged, err := c.logged(ctx)
	if err != nil {
		return err
	}
	for _, o := range logged {
		live[o.Key] = true
		c.locked[o.Key] = max(c.locked[o.Key], c.lockOf(o))
	}
	for key := range c.locked {
		if !live[key] {
			delete(c.locked, key)
		}
	}
	for key, ok := range live {
		if _, known := c.locked[key]; ok && !known {
			c.locked[key] = 0
		}
	}
	return nil
}

// logged are the newest checkpoint of the log and the entries behind it.
func (c *collector) logged(ctx context.Context) (all []objstore.Info, err error) {
	states, _, err := c.store.List(ctx, "state/", "", 1)
	if err != nil {
		return nil, err
	}
	all = states
	for o, err := range objstore.All(ctx, c.store, "log/", "") { // the newest first
		if err != nil {
			return nil, err
		}
		if len(states) > 0 && o.Key[len("log/"):] >= states[0].Key[len("state/"):] {
			break
		}
		all = append(all, o)
	}
	return all, nil
}

// prolong makes the requests, many at a time. What is refused is told, and stays as it is.
func (c *collector) prolong(ctx context.Context, all []renewal) error {
	r := c.retention()
	until := c.lockFrom(c.now)
	var mu sync.Mutex
	var refused []error
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, one := range all {
		g.Go(func() error {
			err := c.store.Retain(ctx, one.key, r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				one.done(until)
			case errors.Is(err, objstore.ErrDenied), errors.Is(err, objstore.ErrNotFound):
				refused = append(refused, err)
			default:
				return fmt.Errorf("prolong the lock of object %s: %w", one.key, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(refused) > 0 {
		c.warn("the locks of %d objects could not be prolonged: %v; they can be removed when their locks end", len(refused), refused[0])
	}
	return nil
}
