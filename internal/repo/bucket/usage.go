package bucket

import (
	"context"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// listed is what a listing found when the log was at seq.
type listed struct {
	mu   sync.Mutex
	seq  uint64 // 0: nothing was listed
	used uint64
}

// Usage reports how much is stored: what the last garbage collection found in use, and before
// the first one what sessions wrote, by a listing that is made anew when the log went on. A
// bucket has no end.
func (r *Repository) Usage(ctx context.Context) (vfs.Usage, error) {
	s, err := r.view(ctx)
	if err != nil {
		return vfs.Usage{}, err
	}
	c, ok, err := catalog.Get[catalog.Collected](s, catalog.GCKey)
	used := uint64(max(0, c.Status.DiskBytes))
	if err == nil && !ok {
		used, err = r.list(ctx, s.Seq())
	}
	return vfs.Usage{Total: used, Used: used}, err
}

func (r *Repository) list(ctx context.Context, seq uint64) (used uint64, err error) {
	r.listed.mu.Lock()
	defer r.listed.mu.Unlock()
	if r.listed.seq == seq {
		return r.listed.used, nil
	}
	for o, err := range objstore.All(ctx, r.store, catalog.SessionsDir, "") {
		if err != nil {
			return 0, err
		}
		used += uint64(o.Size)
	}
	r.listed.seq, r.listed.used = seq, used
	return used, nil
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
