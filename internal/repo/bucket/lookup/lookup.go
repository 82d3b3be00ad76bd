// Package lookup finds where chunks of a repository in a bucket lie, for
// sessions that ask whether they have to send one.
//
// [Indexes] are what a process holds of the repository's indexes. A [View] is what
// can be found in them at one state of the repository: the place of a sound
// chunk in a pack that a session may use, which is in no list of condemned packs,
// is there, and has not been written anew. A chunk that was found damaged is where the
// log says that a sound one is, or nowhere.
//
// # Requests
//
// The first question of a view brings the heads of all indexes that are not here yet
// and that the log does not have, up to 32 at a time, and small indexes whole. Then a
// chunk that is not there takes no request, and one that is there takes one, for a
// block of an index. Indexes in which much is found are read in larger pieces, because
// more will be.
//
// # Memory
//
// Heads take 3.2 bytes for each chunk of the repository, up to [Options].Heads: of
// indexes for which there is no room, the oldest, nothing is found. Blocks take up to
// [Options].Blocks. A view holds a name for each pack that may not be used.
//
// # Errors
//
// That a chunk is not found is no error, and may be so although it is there: who does
// not find it stores it once more. So an index that is damaged or gone is as one that
// has nothing; [Options].Warn is told of damage. What could not be read is an error.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/pack"
	"github.com/holdfast-backup/holdfast/internal/format/packindex"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// Options bound memory. Zero values are the usual ones.
type Options struct {
	Heads  int64       // bytes; 0: 128 MiB, for 40 million chunks
	Blocks int64       // bytes; 0: 32 MiB
	Warn   func(error) // is told of damaged indexes; may be nil
}

// Indexes are the indexes of a repository, for any number of views. They are safe
// for concurrent use.
type Indexes struct {
	store  objstore.Store
	opt    Options
	blocks *lru[blockName, []byte] // nil where there is nothing of use

	mu    sync.Mutex
	heads map[string]*index // by key of the object
}

// New returns the indexes of a repository. It makes no request.
func New(s objstore.Store, o Options) *Indexes {
	if o.Heads == 0 {
		o.Heads = 128 << 20
	}
	if o.Blocks == 0 {
		o.Blocks = 32 << 20
	}
	if o.Warn == nil {
		o.Warn = func(error) {}
	}
	return &Indexes{store: s, opt: o, blocks: newLRU[blockName](o.Blocks, length), heads: map[string]*index{}}
}

// blockName is a block of an index.
type blockName struct {
	key string
	n   int
}

func length(b []byte) int64 { return int64(len(b)) }

// View finds chunks as they lie at one state. It is safe for concurrent use.
type View struct {
	x      *Indexes
	state  catalog.Reader
	barred map[pack.ID]bool
	runs   []run

	turn    chan struct{} // holds one token: who has it may load
	loaded  chan struct{} // closed when indexes is valid
	indexes []*index
}

// At returns the view at a state. It makes no request.
func (x *Indexes) At(state catalog.Reader) (*View, error) {
	v := &View{x: x, state: state, turn: make(chan struct{}, 1), loaded: make(chan struct{})}
	v.turn <- struct{}{}
	var err error
	if v.barred, err = barred(state); err != nil {
		return nil, err
	}
	v.runs, err = runs(state)
	return v, err
}

// May reports whether a session that began at this state, or later, may use a
// pack.
func (v *View) May(id pack.ID) bool { return !v.barred[id] }

// Find searches a sound chunk.
func (v *View) Find(ctx context.Context, d digest.Digest) (pack.Location, bool, error) {
	bad, ok, err := catalog.Get[catalog.Bad](v.state, catalog.BadKey(d))
	switch {
	case err != nil:
		return pack.Location{}, false, err
	case ok:
		return bad.Place(), !bad.Lost() && v.May(bad.Pack), nil
	}
	if err := v.load(ctx); err != nil {
		return pack.Location{}, false, err
	}
	for _, x := range v.indexes {
		l, ok, err := v.x.find(ctx, x, d)
		if err != nil {
			return pack.Location{}, false, fmt.Errorf("look for chunk %s: %w", d, err)
		}
		if ok && v.May(l.Pack) {
			return l, true, nil
		}
	}
	return pack.Location{}, false, nil
}

// index is one of which the head is here.
type index struct {
	key  string
	head *packindex.Head
	hits counter
}

// find searches a chunk in one index.
func (x *Indexes) find(ctx context.Context, i *index, d digest.Digest) (pack.Location, bool, error) {
	n, ok := i.head.Find(d)
	if !ok {
		return pack.Location{}, false, nil
	}
	b, err := x.block(ctx, i, n)
	if err != nil || b == nil {
		return pack.Location{}, false, err
	}
	l, ok, err := packindex.FindIn(b, d)
	if errors.Is(err, packindex.ErrFormat) {
		x.damaged(i.key, err)
		x.blocks.put(blockName{i.key, n}, nil)
		return pack.Location{}, false, nil
	}
	return l, ok, err
}

func (x *Indexes) damaged(key string, err error) {
	x.opt.Warn(fmt.Errorf("index %s: %w: chunks in it are stored once more", key, err))
}
