package verify

import (
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// Lister tells what there is to verify.
type Lister interface {
	// Need fails with repo.ErrNotFound unless a snapshot is there and finished.
	Need(n names.Snapshot) error
	// Spaces lists a namespace, which must be there, and all below it if they are
	// wanted.
	Spaces(ns names.Namespace, below bool) ([]names.Namespace, error)
	// Groups lists a namespace, or returns only that it is there.
	Groups(ns names.Namespace, only *names.Group) ([]names.Group, error)
	// Finished lists the finished snapshots of a group, oldest first.
	Finished(ns names.Namespace, g names.Group) ([]names.Snapshot, error)
}

// benchmarkGroup is what a benchmark of PBS leaves behind; it is not verified.
var benchmarkGroup = names.Group{Type: names.Host, ID: "benchmark"}

// choose lists the snapshots to look at, newest first within a group.
func choose(s Lister, opt repo.VerifyOptions) ([]names.Snapshot, error) {
	if opt.Snapshot != nil {
		if err := s.Need(*opt.Snapshot); err != nil {
			return nil, err
		}
		return []names.Snapshot{*opt.Snapshot}, nil
	}
	spaces, err := s.Spaces(opt.Namespace, opt.Recursive && opt.Group == nil)
	if err != nil {
		return nil, err
	}
	var list []names.Snapshot
	for _, ns := range spaces {
		groups, err := s.Groups(ns, opt.Group)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if g == benchmarkGroup || opt.Only != nil && !opt.Only(ns, g) {
				continue
			}
			snaps, err := s.Finished(ns, g)
			if err != nil {
				return nil, err
			}
			for i := len(snaps) - 1; i >= 0; i-- {
				list = append(list, snaps[i])
			}
		}
	}
	return list, nil
}
