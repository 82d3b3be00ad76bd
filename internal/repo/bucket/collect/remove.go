package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// remover deletes objects, and knows what the store did not let go of.
type remover struct {
	store  objstore.Store
	left   map[string]bool
	reason error // of the first
}

// remove deletes objects. What is refused is left.
func (r *remover) remove(ctx context.Context, keys []string) error {
	for batch := range slices.Chunk(keys, objstore.MaxDelete) {
		err := r.store.Delete(ctx, batch)
		if err == nil {
			continue
		}
		refused, ok := errors.AsType[objstore.DeleteError](err)
		switch {
		case ok:
			for key, reason := range refused {
				if !errors.Is(reason, objstore.ErrDenied) {
					return fmt.Errorf("remove object %s: %w", key, reason)
				}
				r.leave(key, reason)
			}
		case errors.Is(err, objstore.ErrDenied):
			for _, key := range batch {
				r.leave(key, err)
			}
		default:
			return fmt.Errorf("remove objects: %w", err)
		}
	}
	return nil
}

func (r *remover) leave(key string, reason error) {
	if r.left == nil {
		r.left, r.reason = map[string]bool{}, reason
	}
	r.left[key] = true
}

// sentence says what was left, "" if nothing was.
func (r *remover) sentence() string {
	if len(r.left) == 0 {
		return ""
	}
	return fmt.Sprintf("%d objects that nobody needs could not be removed, because these credentials may not remove, or the store keeps them for longer "+
		"than is known (%v); everything else is done, and whoever may remove goes on from there", len(r.left), r.reason)
}

// tidy removes what sessions left that came to nothing, and goes on looking for a week.
func (c *collector) tidy(ctx context.Context) error {
	for _, n := range slices.Sorted(maps.Keys(c.at.ended)) {
		e := c.at.ended[n]
		left, err := c.tidyOne(ctx, n)
		if err != nil {
			return err
		}
		if after := seen(e, c.now, left); after == nil || *after != e {
			c.out.ended[n] = after
		}
	}
	return nil
}

func (c *collector) tidyOne(ctx context.Context, n catalog.Number) (left int, err error) {
	var keys []string
	for o, err := range objstore.All(ctx, c.store, catalog.SessionDir(n), "") {
		if err != nil {
			return 0, fmt.Errorf("list what session %s wrote: %w", n, err)
		}
		if until := c.lockOf(o); until != 0 && c.now.Before(until.Time()) {
			left++
			continue
		}
		keys = append(keys, o.Key)
	}
	before := len(c.bin.left)
	if err := c.bin.remove(ctx, keys); err != nil {
		return 0, err
	}
	return left + len(c.bin.left) - before, nil
}

// packOf returns the pack of a session that has a key.
func packOf(n catalog.Number, key string) (pack.ID, bool) {
	number, ok := strings.CutPrefix(key, catalog.SessionDir(n)+"p")
	i, err := strconv.ParseUint(number, 16, 32)
	id := pack.ID{Session: uint64(n), Number: uint32(i)}
	return id, ok && err == nil && id.Key() == key
}

// old is an age at which nobody is busy with an object any more that nothing names.
const old = 24 * time.Hour

// clocks finds the objects by which somebody asked what time it is, and which he could not
// remove.
func (c *collector) clocks(ctx context.Context) error {
	for o, err := range objstore.All(ctx, c.store, "clock/", "") {
		if err != nil {
			return err
		}
		if c.now.Sub(o.Modified) >= old {
			c.litter = append(c.litter, o.Key)
		}
	}
	return nil
}

// signs finds signs of life of sessions that have ended: what was left, and what came late.
func (c *collector) signs(ctx context.Context) error {
	for o, err := range objstore.All(ctx, c.store, catalog.LeasePrefix, "") {
		if err != nil {
			return err
		}
		n, err := catalog.LeaseSession(o.Key)
		if err != nil {
			c.warn("object %s is none of a repository, and stays", o.Key)
			continue
		}
		if _, running := c.at.running[n]; !running && n <= c.at.seq {
			c.litter = append(c.litter, o.Key)
		}
	}
	return nil
}
