package bucket

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect"
)

// GC removes what nobody needs. It fails with a *catalog.LockedError while another collection
// runs. There are no access times to be checked.
func (r *Repository) GC(ctx context.Context, g repo.GCOptions) (repo.GCStatus, error) {
	if err := r.writable(); err != nil {
		return repo.GCStatus{}, err
	}
	st, err := collect.Run(ctx, r.store, r.log, collect.Options{
		GCOptions: g, Process: r.opt.Process, Lease: r.opt.Lease, Now: r.opt.Now,
		Hold: r.holdFor, Over: r.over,
	})
	return st, broken(err)
}

// holdFor gives signs of life for a session until it is told to end; then they are removed.
func (r *Repository) holdFor(n catalog.Number) (end func(context.Context)) {
	l := r.hold(n)
	return func(context.Context) { _ = r.remove(l.end()) } // another collection removes what is left
}
