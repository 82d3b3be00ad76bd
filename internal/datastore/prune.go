package datastore

import (
	"context"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/pruning"
)

// Prune decides on every snapshot of a group, or of each group of a
// namespace, and removes those that are marked so, oldest first. A snapshot
// that cannot be removed is reported and the rest goes on.
func (s *Store) Prune(ctx context.Context, p repo.PruneOptions) ([]repo.PruneResult, error) {
	return pruning.Run(ctx, prunable{s}, p)
}

// prunable is a store in the eyes of pruning.
type prunable struct{ store *Store }

func (p prunable) Groups(ns names.Namespace, only *names.Group) ([]names.Group, error) {
	if err := p.store.needNamespace(ns); err != nil {
		return nil, err
	}
	if only == nil {
		return p.store.groups(ns)
	}
	return []names.Group{*only}, p.store.needGroup(ns, *only)
}

func (p prunable) Snapshots(ns names.Namespace, g names.Group) ([]pruning.Snapshot, error) {
	snaps, err := p.store.times(ns, g)
	if err != nil {
		return nil, err
	}
	list := make([]pruning.Snapshot, len(snaps))
	for i, n := range snaps {
		list[i].Name = n
		if list[i].Finished, err = p.store.finished(n); err != nil {
			return nil, err
		}
		if list[i].Protected, err = exists(p.store.fs, n.Path()+"/"+names.Protected); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (p prunable) Remove(ctx context.Context, was pruning.Snapshot) error {
	return p.store.forgetIf(ctx, was.Name, func() error { return p.store.still(was.Name, was.Finished) })
}

// still fails when a backup that was not finished when prune decided on it is
// now.
func (s *Store) still(n names.Snapshot, finished bool) error {
	now, err := s.finished(n)
	if err == nil && now && !finished {
		return fmt.Errorf("it was being written and is finished now: %w", repo.ErrLocked)
	}
	return err
}
