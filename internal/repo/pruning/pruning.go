// Package pruning removes what a retention policy does not keep: the loop that
// every repository has in common, over the decisions of internal/retention.
package pruning

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// Snapshot is what a decision rests on.
type Snapshot struct {
	Name                names.Snapshot
	Finished, Protected bool
}

// Store is what is pruned.
type Store interface {
	// Groups lists the groups of a namespace, or returns only that it is there.
	Groups(ns names.Namespace, only *names.Group) ([]names.Group, error)
	// Snapshots lists a group, oldest first.
	Snapshots(ns names.Namespace, g names.Group) ([]Snapshot, error)
	// Remove removes a snapshot, unless it is not any more what was decided on:
	// one that is finished now, or protected, stays, and the error says so.
	Remove(ctx context.Context, was Snapshot) error
}

// Run decides on every snapshot of a group, or of each group of a namespace, and
// removes those that are marked so, oldest first. A snapshot that cannot be
// removed is reported and the rest goes on.
func Run(ctx context.Context, s Store, p repo.PruneOptions) ([]repo.PruneResult, error) {
	if p.Keep.IsZero() { // the decision would be to remove everything
		return nil, errors.New("prune: nothing says what to keep")
	}
	groups, err := s.Groups(p.Namespace, p.Group)
	if err != nil {
		return nil, err
	}
	if p.Location == nil {
		p.Location = time.Local
	}
	var all []repo.PruneResult
	for _, g := range groups {
		results, err := group(ctx, s, g, p)
		all = append(all, results...)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

func group(ctx context.Context, s Store, g names.Group, p repo.PruneOptions) ([]repo.PruneResult, error) {
	snaps, err := s.Snapshots(p.Namespace, g)
	if err != nil {
		return nil, err
	}
	facts := make([]retention.Snapshot, len(snaps))
	for i, n := range snaps {
		facts[i] = retention.Snapshot{Time: n.Name.Time, Finished: n.Finished, Protected: n.Protected}
	}
	marks := retention.Decide(facts, p.Keep, p.Location)
	results := make([]repo.PruneResult, len(snaps))
	for i, n := range snaps { // oldest first
		results[i] = repo.PruneResult{Snapshot: n.Name, Mark: marks[i]}
		if marks[i] != retention.Remove || p.DryRun {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return results[:i], err
		}
		results[i].Err = s.Remove(ctx, n)
	}
	return results, nil
}
