package collect

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/holdfast-backup/holdfast/internal/ledger"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// begin starts the session, in the place of one that is dead.
func (r *run) begin(ctx context.Context) (catalog.Number, error) {
	q := catalog.Request{Session: catalog.Session{Kind: catalog.GC, Process: r.opt.Process, Lease: int(r.opt.Lease / time.Second)}}
	for {
		seq, err := r.log.Update(ctx, func(tx *ledger.Tx) error {
			_, err := catalog.Begin(tx, q)
			return err
		})
		if err == nil {
			return catalog.Number(seq), nil
		}
		locked, ok := errors.AsType[*catalog.LockedError](err)
		if !ok {
			return 0, err
		}
		over, until, err := r.opt.Over(ctx, locked.Session)
		if err != nil {
			return 0, err
		}
		if !over {
			locked.Until = until
			return 0, locked
		}
		if err := r.fence(ctx, locked.Session.Number); err != nil {
			return 0, err
		}
	}
}

// fail ends a session that failed. What one reads that others have ended may be gone, because
// they go on without it: then it is not the object that is missing.
func (r *run) fail(ctx context.Context, n catalog.Number, err error) error {
	var alive error
	_, ended := r.log.Update(ctx, func(tx *ledger.Tx) error {
		_, alive = catalog.Alive(tx, n)
		return catalog.End(tx, n)
	})
	switch {
	case ended != nil: // whoever comes next ends it
		return fmt.Errorf("%w (and its session could not be ended: %w)", err, ended)
	case errors.Is(err, objstore.ErrNotFound) && errors.Is(alive, catalog.ErrFenced):
		return fmt.Errorf("%w (%v)", alive, err)
	}
	return err
}

func (r *run) fence(ctx context.Context, n catalog.Number) error {
	_, err := r.log.Update(ctx, func(tx *ledger.Tx) error { return catalog.End(tx, n) })
	return err
}

// session does what takes a session, which its last entry ends.
func (r *run) session(ctx context.Context, n catalog.Number) (*collector, error) {
	info, err := r.store.Stat(ctx, entryKey(n))
	if err != nil {
		return nil, fmt.Errorf("ask the store what time it is: %w", err)
	}
	st, err := r.log.View(ctx)
	if err != nil {
		return nil, err
	}
	all, err := catalog.Sessions(st)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Number == n {
			continue
		}
		over, _, err := r.opt.Over(ctx, s)
		if err == nil && over {
			err = r.fence(ctx, s.Number)
		}
		if err != nil {
			return nil, err
		}
	}
	c, err := r.collect(ctx, n, info.Modified)
	if err != nil {
		return nil, err
	}
	c.summarize()
	c.out.collected.Status = c.status
	_, err = r.log.Update(ctx, func(tx *ledger.Tx) error { return c.out.commit(tx) })
	return c, err
}

// entryKey is the key of the log's entry n.
func entryKey(n catalog.Number) string { return fmt.Sprintf("log/%016x", math.MaxUint64-uint64(n)) }
