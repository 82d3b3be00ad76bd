package bucket

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/reading"
)

// Open opens a finished snapshot for reading. What is removed meanwhile stays readable
// for the grace time of collections.
func (r *Repository) Open(ctx context.Context, n names.Snapshot) (repo.Snapshot, error) {
	snap, err := r.openSnapshot(ctx, n)
	if err != nil { // not a typed nil
		return nil, err
	}
	return snap, nil
}

func (r *Repository) openSnapshot(ctx context.Context, n names.Snapshot) (*reading.Snapshot, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	s, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := catalog.NeedSnapshot(s, n)
	if err != nil {
		return nil, err
	}
	return r.openRecord(ctx, n, rec)
}

func (r *Repository) openRecord(ctx context.Context, n names.Snapshot, rec catalog.Snapshot) (*reading.Snapshot, error) {
	return r.openFrom(ctx, r.store, n, rec)
}

// openFrom opens a snapshot whose objects another store brings.
func (r *Repository) openFrom(ctx context.Context, s objstore.Store, n names.Snapshot, rec catalog.Snapshot) (*reading.Snapshot, error) {
	return reading.Open(ctx, n, rec, reading.Options{ // where packs are now, also of what was
		Store: s, Moves: r.moves,
		Seen:    func() catalog.Reader { return r.log.Seen() },
		Refresh: func(ctx context.Context) (catalog.Reader, error) { return r.now(ctx) },
	})
}
