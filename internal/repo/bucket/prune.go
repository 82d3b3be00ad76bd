package bucket

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/pruning"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// pruneMost bounds what one entry of the log removes.
const pruneMost = 1000

// Prune decides on every snapshot of a group, or of each group of a namespace, and
// removes those that are marked so, all by one entry if they are not very many. A
// snapshot that cannot be removed is reported and the rest goes on.
func (r *Repository) Prune(ctx context.Context, p repo.PruneOptions) ([]repo.PruneResult, error) {
	if p.Keep.IsZero() { // the decision would be to remove everything
		return nil, errors.New("prune: nothing says what to keep")
	}
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	dry := p
	dry.DryRun = true
	results, err := pruning.Run(ctx, prunable{s}, dry)
	if err != nil || p.DryRun {
		return results, err
	}
	for some := range removals(results) {
		if err := r.removeAll(ctx, some); err != nil {
			return results, err
		}
	}
	return results, nil
}

// removals gives the results that are marked for removal, some at a time.
func removals(results []repo.PruneResult) func(func([]*repo.PruneResult) bool) {
	return func(yield func([]*repo.PruneResult) bool) {
		var some []*repo.PruneResult
		for i := range results {
			if results[i].Mark != retention.Remove {
				continue
			}
			if some = append(some, &results[i]); len(some) == pruneMost {
				if !yield(some) {
					return
				}
				some = nil
			}
		}
		if len(some) > 0 {
			yield(some)
		}
	}
}

func (r *Repository) removeAll(ctx context.Context, some []*repo.PruneResult) error {
	errs := make([]error, len(some))
	_, err := r.update(ctx, func(tx catalog.Tx) error {
		for i, res := range some {
			if errs[i] = catalog.Forget(tx, res.Snapshot); errs[i] != nil && !kept(errs[i]) {
				return errs[i]
			}
		}
		return nil
	})
	for i, res := range some {
		if res.Err = errs[i]; err != nil {
			res.Err = err
		}
	}
	return err
}

// kept reports whether an error is about one snapshot.
func kept(err error) bool {
	return errors.Is(err, repo.ErrProtected) || errors.Is(err, repo.ErrLocked) || errors.Is(err, repo.ErrNotFound)
}

// prunable is a state in the eyes of pruning.
type prunable struct{ state catalog.Reader }

func (p prunable) Groups(ns names.Namespace, only *names.Group) ([]names.Group, error) {
	return wanted(p.state, ns, only)
}

func (p prunable) Snapshots(ns names.Namespace, g names.Group) ([]pruning.Snapshot, error) {
	snaps, err := catalog.Times(p.state, ns, g)
	if err != nil {
		return nil, err
	}
	list := make([]pruning.Snapshot, len(snaps))
	for i, n := range snaps {
		rec, err := catalog.NeedSnapshot(p.state, n)
		if err != nil {
			return nil, err
		}
		list[i] = pruning.Snapshot{Name: n, Finished: true, Protected: rec.Protected}
	}
	return list, nil
}

func (p prunable) Remove(context.Context, pruning.Snapshot) error {
	panic("bucket: internal error: only a dry run prunes one by one")
}
