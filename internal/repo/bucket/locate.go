package bucket

import (
	"context"
	"errors"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// locateAll makes the chunk map.
func (b *Session) locateAll(ctx context.Context, files []*staged) (_ *lies, err error) {
	needed, err := needs(files)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, needed.Close()) }()
	f, err := spool.Create()
	if err != nil {
		return nil, err
	}
	w := chunkmap.NewWriter(io.NewOffsetWriter(f, 0))
	x := &lies{file: f}
	if err := b.resolve(ctx, func(r *resolver) error { return r.mapOf(ctx, needed, w) }); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	x.packs = w.Packs()
	size, err := b.packSizes(ctx, x.packs)
	if err == nil {
		x.size, err = w.Close(size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return x, nil
}

// resolve calls f with what finds the session's chunks.
func (b *Session) resolve(ctx context.Context, f func(*resolver) error) error {
	state := b.repo.log.Seen()
	r := &resolver{
		may: b.chunks.view.May, find: b.chunks.view.Find,
		follow: func(ctx context.Context, l pack.Location) (pack.Location, bool, error) {
			return b.repo.moves.Follow(ctx, state, l, lookup.Every)
		},
	}
	var err error
	if r.bad, err = catalog.BadChunks(state); err != nil {
		return err
	}
	base, err := b.baseMap(ctx)
	if err != nil {
		return err
	}
	if base != nil {
		r.base = newBaseCursor(base)
		defer r.base.stop()
	}
	return b.chunks.sorted(func(own, found *cursor) error {
		r.own, r.found = own, found
		return f(r)
	})
}

// baseMap is the chunk map of the base, nil when there is none. One that is damaged says
// nothing, and the indexes are asked.
func (b *Session) baseMap(ctx context.Context) (*chunkmap.Map, error) {
	if b.prev == nil {
		return nil, nil
	}
	m, err := b.prev.Map(ctx)
	if _, bad := errors.AsType[*repo.CorruptError](err); bad {
		return nil, nil
	}
	return m, err
}

// packSizes returns a function that says how long a pack is.
func (b *Session) packSizes(ctx context.Context, packs []pack.ID) (func(pack.ID) (uint32, error), error) {
	known := map[pack.ID]uint32{}
	base, err := b.baseMap(ctx)
	if err != nil {
		return nil, err
	}
	if base != nil {
		for _, p := range base.Packs() {
			known[p.ID] = p.Size
		}
	}
	var foreign []pack.ID
	for _, id := range packs {
		if size, own := b.chunks.packSize(id); own {
			known[id] = size
		} else if _, ok := known[id]; !ok {
			foreign = append(foreign, id)
		}
	}
	sizes, err := b.repo.sizes(ctx, foreign)
	return func(id pack.ID) (uint32, error) {
		if n, ok := sizes[id]; ok {
			return n, nil
		}
		return known[id], nil
	}, err
}
