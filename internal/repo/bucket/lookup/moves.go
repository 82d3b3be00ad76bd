package lookup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/holdfast-backup/holdfast/internal/format/moves"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Moves say where chunks lie whose packs were written anew. They are safe for
// concurrent use.
type Moves struct {
	store objstore.Store
	lists *lru[string, *moves.List]
}

// NewMoves returns them with so many bytes of lists in memory. It makes no
// request; one is made for each pack that is asked for.
func NewMoves(s objstore.Store, limit int64) *Moves {
	return &Moves{s, newLRU[string](limit, func(l *moves.List) int64 { return l.Chunks() * moves.EntrySize })}
}

// Which moves are followed.
type Which bool

const (
	Gone  Which = false // of packs that are not there any more
	Every Which = true
)

// Follow returns where a chunk lies now that lay at l, over as many moves as it
// made. ok is false when the pack is gone and the chunk did not move: nobody
// needed it then.
func (m *Moves) Follow(ctx context.Context, state catalog.Reader, l pack.Location, which Which) (now pack.Location, ok bool, err error) {
	for range maxMoves {
		rec, moved, err := catalog.Get[catalog.Moved](state, catalog.MovedKey(l.Pack))
		if err != nil || !moved || which == Gone && !rec.Void {
			return l, err == nil, err
		}
		to, listed, err := m.step(ctx, rec, l)
		if err != nil {
			return pack.Location{}, false, err
		}
		if !listed {
			return l, !rec.Void, nil
		}
		l = to
	}
	return pack.Location{}, false, &repo.CorruptError{
		What: "list of moved chunks of pack " + l.Pack.String(), Err: fmt.Errorf("its chunks moved more than %d times", maxMoves),
	}
}

// maxMoves is more than a chunk makes in a thousand years.
const maxMoves = 10_000

// step follows one move.
func (m *Moves) step(ctx context.Context, rec catalog.Moved, l pack.Location) (now pack.Location, ok bool, err error) {
	list, err := m.list(ctx, rec, l.Pack)
	if err != nil {
		what := "list of moved chunks of pack " + l.Pack.String()
		if errors.Is(err, resume.ErrShort) || errors.Is(err, moves.ErrFormat) {
			return now, false, &repo.CorruptError{What: what, Err: err}
		}
		return now, false, fmt.Errorf("%s: %w", what, err)
	}
	to, ok, err := list.Find(moves.Place{Pack: l.Pack, Off: l.Off})
	return pack.Location{Pack: to.Pack, Off: to.Off, Len: l.Len}, ok, err
}

// maxList is what the list of a pack full of the smallest chunks has.
const maxList = 64 << 20

// list reads the list of a pack.
func (m *Moves) list(ctx context.Context, rec catalog.Moved, id pack.ID) (*moves.List, error) {
	if rec.Len < 0 || rec.Len > maxList || rec.Off < 0 || rec.Off > math.MaxInt64-rec.Len {
		return nil, fmt.Errorf("%w: %d bytes at %d", moves.ErrFormat, rec.Len, rec.Off)
	}
	name := rec.In + " " + id.String()
	if l, ok := m.lists.get(name); ok {
		return l, nil
	}
	b := make([]byte, rec.Len)
	if err := resume.Fetch(ctx, m.store, rec.In, b, rec.Off); err != nil {
		return nil, err
	}
	l, err := moves.Open(bytes.NewReader(b), rec.Len)
	if err == nil {
		m.lists.put(name, l)
	}
	return l, err
}
