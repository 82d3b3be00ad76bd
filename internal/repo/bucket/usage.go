package bucket

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Usage reports how much is stored, as far as the last garbage collection knows: a bucket has no
// end.
func (r *Repository) Usage(ctx context.Context) (vfs.Usage, error) {
	st, err := r.LastGC(ctx)
	used := uint64(max(0, st.DiskBytes))
	return vfs.Usage{Total: used, Used: used}, err
}

// LastGC returns the state of the last collection.
func (r *Repository) LastGC(ctx context.Context) (repo.GCStatus, error) {
	s, err := r.view(ctx)
	if err != nil {
		return repo.GCStatus{}, err
	}
	c, _, err := catalog.Get[catalog.Collected](s, catalog.GCKey)
	return c.Status, err
}
