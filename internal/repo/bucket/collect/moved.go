package collect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// relocator follows chunks to where they lie now. It keeps lists in memory, up to a
// bound.
type relocator struct {
	store objstore.Store
	moved map[pack.ID]catalog.Moved

	mu    sync.Mutex
	lists map[pack.ID]*moves.List
	held  int64 // bytes of them
}

const (
	maxLists = 32 << 20 // bytes of lists that are held
	maxList  = 1 << 30  // bytes of one that are sensible
	maxHops  = 1000     // more is a circle
)

// list is where the chunks of a pack went.
func (r *relocator) list(ctx context.Context, id pack.ID) (*moves.List, error) {
	r.mu.Lock()
	l := r.lists[id]
	r.mu.Unlock()
	if l != nil {
		return l, nil
	}
	l, err := readMoves(ctx, r.store, r.moved[id])
	if err != nil {
		return nil, fmt.Errorf("where the chunks of pack %s went: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lists == nil || r.held > maxLists {
		r.lists, r.held = map[pack.ID]*moves.List{}, 0
	}
	r.lists[id] = l
	r.held += l.Chunks() * moves.EntrySize
	return l, nil
}

func readMoves(ctx context.Context, s objstore.Store, m catalog.Moved) (*moves.List, error) {
	if m.Len < 0 || m.Len > maxList {
		return nil, fmt.Errorf("a list of %d bytes", m.Len)
	}
	b := make([]byte, m.Len)
	if err := resume.Fetch(ctx, s, m.In, b, m.Off); err != nil {
		return nil, err
	}
	l, err := moves.Open(bytes.NewReader(b), m.Len)
	if errors.Is(err, moves.ErrFormat) {
		err = &repo.CorruptError{What: "object " + m.In, Err: err}
	}
	return l, err
}

// prepare gets the lists of those of some packs that moved, side by side.
func (r *relocator) prepare(ctx context.Context, packs []pack.ID) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for _, id := range packs {
		if _, ok := r.moved[id]; ok {
			g.Go(func() error {
				_, err := r.list(ctx, id)
				return err
			})
		}
	}
	return g.Wait()
}

// now is where a chunk lies now.
func (r *relocator) now(ctx context.Context, at pack.Location) (pack.Location, error) {
	for range maxHops {
		if _, ok := r.moved[at.Pack]; !ok {
			return at, nil
		}
		l, err := r.list(ctx, at.Pack)
		if err != nil {
			return at, err
		}
		to, ok, err := l.Find(moves.Place{Pack: at.Pack, Off: at.Off})
		if err != nil || !ok {
			return at, err
		}
		at.Pack, at.Off = to.Pack, to.Off
	}
	return at, &repo.CorruptError{What: "the list of moved chunks", Err: fmt.Errorf("pack %s moved in a circle", at.Pack)}
}

// nameTargets notes n times more that a pack names those to which its chunks went.
func (c *collector) nameTargets(ctx context.Context, id pack.ID, n int64) error {
	l, err := c.moves.list(ctx, id)
	if err != nil {
		return err
	}
	to := map[pack.ID]bool{}
	err = l.Each(func(_, at moves.Place) error {
		to[at.Pack] = true
		return nil
	})
	if err != nil {
		return err
	}
	for target := range to {
		c.tally.Name(target, 0, n)
	}
	return nil
}
