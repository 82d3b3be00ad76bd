package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// findSnapshot returns the listing's view of one snapshot.
func findSnapshot(ctx context.Context, r repo.Repository, s names.Snapshot) (repo.SnapshotInfo, error) {
	list, err := r.Snapshots(ctx, s.NS, &s.Group)
	if err != nil {
		return repo.SnapshotInfo{}, err
	}
	for _, info := range list {
		if info.Snapshot == s {
			return info, nil
		}
	}
	return repo.SnapshotInfo{}, fmt.Errorf("snapshot %s: %w", show(s), repo.ErrNotFound)
}

// secondsOf is a span of so many seconds.
func secondsOf(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
