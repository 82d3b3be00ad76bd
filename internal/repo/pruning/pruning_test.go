package pruning_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/pruning"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// store is one group with a snapshot a day.
type store struct {
	days    int
	kept    int // this one cannot be removed
	removed []int64
}

const day = 24 * 60 * 60

func (s *store) Groups(names.Namespace, *names.Group) ([]names.Group, error) {
	return []names.Group{{Type: names.VM, ID: "100"}}, nil
}

func (s *store) Snapshots(ns names.Namespace, g names.Group) ([]pruning.Snapshot, error) {
	var list []pruning.Snapshot
	for i := range s.days {
		list = append(list, pruning.Snapshot{Name: names.Snapshot{NS: ns, Group: g, Time: int64(i+1) * day}, Finished: true, Protected: i == 0})
	}
	return list, nil
}

var errKept = errors.New("somebody reads it")

func (s *store) Remove(_ context.Context, was pruning.Snapshot) error {
	n := was.Name.Time / day
	if n == int64(s.kept) {
		return errKept
	}
	s.removed = append(s.removed, n)
	return nil
}

func TestTheOldestGoFirstAndOneThatStaysStopsNobody(t *testing.T) {
	s := &store{days: 6, kept: 3}
	opt := repo.PruneOptions{Keep: retention.Options{Last: 2}, Location: time.UTC}
	results, err := pruning.Run(t.Context(), s, opt)
	if err != nil || !slices.Equal(s.removed, []int64{2, 4}) {
		t.Fatalf("removed %v, %v", s.removed, err)
	}
	for i, r := range results {
		if (r.Err != nil) != (i == 2) {
			t.Errorf("%s: %v", r.Snapshot, r.Err)
		}
	}
	s = &store{days: 6}
	opt.DryRun = true
	if results, err := pruning.Run(t.Context(), s, opt); err != nil || len(results) != 6 || len(s.removed) > 0 {
		t.Errorf("a dry run decides on %d, and removes %v, %v", len(results), s.removed, err)
	}
}

func TestPruningWithoutAWordOnWhatToKeepIsRefused(t *testing.T) {
	s := &store{days: 6}
	if _, err := pruning.Run(t.Context(), s, repo.PruneOptions{}); err == nil || len(s.removed) > 0 {
		t.Errorf("%v, removed %v", err, s.removed)
	}
}
