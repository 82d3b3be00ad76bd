package simstore

import (
	"context"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/objstore"
)

// listPast is a listing in which some keys are as they were.
func listPast(ctx context.Context, s objstore.Store, past map[string]*objstore.Info, prefix, after string, limit int) ([]objstore.Info, bool, error) {
	var all []objstore.Info
	for i, err := range objstore.All(ctx, s, prefix, after) {
		if err != nil {
			return nil, false, err
		}
		if _, other := past[i.Key]; !other {
			all = append(all, i)
		}
	}
	for key, was := range past {
		if was != nil && strings.HasPrefix(key, prefix) && key > after {
			all = append(all, *was)
		}
	}
	slices.SortFunc(all, func(a, b objstore.Info) int { return strings.Compare(a.Key, b.Key) })
	if limit = min(limit, objstore.MaxDelete); len(all) > limit {
		return all[:limit], true, nil
	}
	return all, false, nil
}
