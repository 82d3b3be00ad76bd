// Package reading is a snapshot in a bucket, open for reading.
//
// # Files
//
// An object of up to 768 KiB comes whole, by one request, and stays in memory. Of
// others, indexes come in pieces of 4 MiB, several at once. They go into temporary
// files, and are compared with the manifest, which is in the snapshot's record. The
// chunk map comes the same way, together with the first index, and stays open: 16
// bytes of memory for 146 chunks.
//
// # Chunks
//
// A chunk that was not announced is one request. Those that were ([Snapshot.Prefetch])
// wait in a line. From its head, chunks that lie near each other in a pack are asked
// for together, up to 8 MiB with gaps of up to 128 KiB read over, and each is there as
// soon as its bytes are, before the request ends. Whoever asks for a chunk that is
// still in the line has it begun at once.
//
// How much is on its way follows the readers. Some bytes always are; beyond, half
// of what was announced stays in the line, to become few large requests. A reader who
// has to wait makes them smaller and more: 8 at once at the start and 128 at most.
//
// What was announced and is not what is needed makes room when others came and
// went meanwhile.
//
// # Packs that are gone
//
// Nobody keeps a pack for who reads: a garbage collection may have written its
// chunks anew, or somebody found one damaged for which there is a sound one. A chunk
// is where the newest state that was seen says; when it is not there the newest state
// of all is asked for, once. What is nowhere then is repo.ErrChunkMissing.
//
// # Memory
//
// Encoded chunks, on their way, waiting or lent, have [Options].Budget bytes together,
// outside the Go heap; those that were asked for without notice come on top. A name
// and a place for each chunk in the line, up to 4,096.
package reading

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/lookup"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// Options say what a snapshot is read from.
type Options struct {
	Store objstore.Store
	Moves *lookup.Moves // shared by the snapshots of a repository
	// Seen is the newest state that is known, without a request; Refresh asks for
	// the newest there is.
	Seen    func() catalog.Reader
	Refresh func(context.Context) (catalog.Reader, error)
	Budget  int64 // bytes of encoded chunks; 0: 96 MiB
}

const usualBudget = 96 << 20

// Snapshot is a finished snapshot, safe for concurrent use. It implements
// repo.Snapshot.
type Snapshot struct {
	opt   Options
	name  names.Snapshot
	rec   catalog.Snapshot
	m     *manifest.Manifest
	ctx   context.Context // of what has none of its own
	stop  context.CancelCauseFunc
	where chunkMap
	small small
	ahead *ahead

	listed bool // it was in the state when it was opened, and not only in the past
}

var (
	_ repo.Snapshot = (*Snapshot)(nil)
	_ fetch.Distant = (*Snapshot)(nil)
	_ fetch.Lender  = (*Snapshot)(nil)
)

// Open opens a snapshot by its record. It makes no request. ctx is not needed any
// longer afterwards: a mount is read from while it is being taken down.
func Open(ctx context.Context, n names.Snapshot, rec catalog.Snapshot, o Options) (*Snapshot, error) {
	if o.Budget == 0 {
		o.Budget = usualBudget
	}
	p := &Snapshot{opt: o, name: n, rec: rec}
	var err error
	if p.m, err = rec.ParseManifest(n); err != nil {
		return nil, err
	}
	p.listed = p.removed(o.Seen(), "") == nil
	p.ctx, p.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	p.where.init()
	p.small.init()
	p.ahead = newAhead(p)
	return p, nil
}

var errClosed = errors.New("the snapshot is closed")

// Name is that of the snapshot.
func (p *Snapshot) Name() names.Snapshot { return p.name }

// Manifest is that of the snapshot; it is not to be changed.
func (p *Snapshot) Manifest() *manifest.Manifest { return p.m }

// Close ends what is on its way and waits for it. Indexes that were opened stay
// open.
func (p *Snapshot) Close() error {
	p.stop(errClosed)
	p.ahead.close()
	return p.where.close()
}

func (p *Snapshot) corrupt(what string, err error) error {
	return &repo.CorruptError{What: what + " in " + p.name.String(), Err: err}
}

// lost says what it means that an object of the snapshot is not there.
func (p *Snapshot) lost(ctx context.Context, what string, err error) error {
	state, rerr := p.opt.Refresh(ctx)
	if rerr != nil {
		return errors.Join(fmt.Errorf("%s in %s: %w", what, p.name, rerr), err)
	}
	if gone := p.removed(state, what); gone != nil {
		return gone
	}
	return p.corrupt(what, err)
}

// removed fails where a state does not have the snapshot any more.
func (p *Snapshot) removed(state catalog.Reader, what string) error {
	now, ok, err := catalog.Get[catalog.Snapshot](state, catalog.SnapshotKey(p.name))
	if err == nil && (!ok || now.Session != p.rec.Session) {
		err = fmt.Errorf("%s in %s: the snapshot was removed, or stored anew, since it was opened: %w", what, p.name, repo.ErrNotFound)
	}
	return err
}
