package reading

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/chunkmap"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/spool"
)

// chunkMap is the snapshot's, when somebody has asked for it.
type chunkMap struct {
	turn chan struct{} // holds one token: who has it may load
	here chan struct{} // closed when m, or err, is valid
	m    *chunkmap.Map
	f    *spool.File
	err  error // damage, which stays
}

func (c *chunkMap) init() {
	c.turn, c.here = make(chan struct{}, 1), make(chan struct{})
	c.turn <- struct{}{}
}

// close waits for who loads it; nobody begins to, afterwards.
func (c *chunkMap) close() error {
	<-c.turn
	f := c.f
	c.f = nil
	c.turn <- struct{}{}
	if f == nil {
		return nil
	}
	return f.Close()
}

// Map fetches the chunk map, once. It is open until Close. Who comes meanwhile waits, and tries it himself
// if it failed.
func (p *Snapshot) Map(ctx context.Context) (*chunkmap.Map, error) {
	c := &p.where
	select {
	case <-c.here:
		return c.m, c.err
	default:
	}
	select {
	case <-c.turn:
	case <-c.here:
		return c.m, c.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
	defer func() { c.turn <- struct{}{} }()
	select {
	case <-c.here:
		return c.m, c.err
	default:
	}
	m, f, err := p.loadMap()
	if _, damage := errors.AsType[*repo.CorruptError](err); err != nil && !damage {
		return nil, err
	}
	c.m, c.f, c.err = m, f, err
	close(c.here)
	return m, err
}

func (p *Snapshot) loadMap() (*chunkmap.Map, *spool.File, error) {
	f, err := p.spool("chunk map", p.rec.Map)
	if err != nil {
		return nil, nil, err
	}
	m, err := chunkmap.Open(f, p.rec.Map.Len)
	if errors.Is(err, chunkmap.ErrFormat) {
		err = p.corrupt("chunk map", err)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return m, f, nil
}

// locate says where a chunk lies, as a state has it. One that is nowhere is
// repo.ErrChunkMissing.
func (p *Snapshot) locate(ctx context.Context, state catalog.Reader, d digest.Digest) (pack.Location, error) {
	return p.follow(ctx, state, d, lookup.Gone)
}

// follow is locate over moves of packs of which the state says that they are gone, or
// over all: a pack goes a little before that is said.
func (p *Snapshot) follow(ctx context.Context, state catalog.Reader, d digest.Digest, which lookup.Which) (pack.Location, error) {
	m, err := p.Map(ctx)
	if err != nil {
		return pack.Location{}, err
	}
	l, ok, err := m.Find(d)
	if err != nil {
		return pack.Location{}, err
	}
	bad, isBad, err := catalog.Get[catalog.Bad](state, catalog.BadKey(d))
	if err != nil {
		return pack.Location{}, err
	}
	if isBad && !bad.Lost() {
		l, ok = bad.Place(), true
	}
	if !ok {
		return pack.Location{}, fmt.Errorf("%w: %s: the chunk map of the snapshot does not name it", repo.ErrChunkMissing, d)
	}
	if err := l.Check(); err != nil {
		return pack.Location{}, &repo.CorruptError{What: "record of the damaged chunk " + d.String(), Err: err}
	}
	now, ok, err := p.opt.Moves.Follow(ctx, state, l, which)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %s: pack %s is gone, and the chunk did not move", repo.ErrChunkMissing, d, l.Pack)
	}
	return now, err
}
