package datastore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// Prune decides on every snapshot of a group, or of each group of a
// namespace, and removes those that are marked so, oldest first. A snapshot
// that cannot be removed is reported and the rest goes on.
func (s *Store) Prune(ctx context.Context, p repo.PruneOptions) ([]repo.PruneResult, error) {
	if p.Keep.IsZero() { // the decision would be to remove everything
		return nil, errors.New("prune: nothing says what to keep")
	}
	if err := s.needNamespace(p.Namespace); err != nil {
		return nil, err
	}
	var groups []names.Group
	if p.Group != nil {
		if err := s.needGroup(p.Namespace, *p.Group); err != nil {
			return nil, err
		}
		groups = []names.Group{*p.Group}
	} else {
		var err error
		if groups, err = s.groups(p.Namespace); err != nil {
			return nil, err
		}
	}
	if p.Location == nil {
		p.Location = time.Local
	}
	var all []repo.PruneResult
	for _, g := range groups {
		results, err := s.pruneGroup(ctx, g, p)
		all = append(all, results...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func (s *Store) pruneGroup(ctx context.Context, g names.Group, p repo.PruneOptions) ([]repo.PruneResult, error) {
	snaps, err := s.times(p.Namespace, g)
	if err != nil {
		return nil, err
	}
	facts := make([]retention.Snapshot, len(snaps))
	for i, n := range snaps {
		facts[i].Time = n.Time
		if facts[i].Finished, err = s.finished(n); err != nil {
			return nil, err
		}
		if facts[i].Protected, err = exists(s.fs, n.Path()+"/"+names.Protected); err != nil {
			return nil, err
		}
	}
	marks := retention.Decide(facts, p.Keep, p.Location)
	results := make([]repo.PruneResult, len(snaps))
	for i, n := range snaps { // oldest first
		results[i] = repo.PruneResult{Snapshot: n, Mark: marks[i]}
		if marks[i] != retention.Remove || p.DryRun {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return results[:i], err
		}
		results[i].Err = s.forgetIf(ctx, n, func() error { return s.still(n, facts[i].Finished) })
	}
	return results, nil
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
