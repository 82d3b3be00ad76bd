package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/indexfile"
)

var _ repo.Refiller = (*Repository)(nil)

// Refill is backups on their way back.
//
// Its own session, the guard, lives as long as it does and stores nothing: as long
// as it runs nothing is removed that was there when it began. Chunks go into packs
// of other sessions, each of which ends with success before a snapshot names its chunks:
// a refill that is killed leaves the snapshots whole that it finished.
type Refill struct {
	repo   *Repository
	guard  catalog.Number
	lease  *lease
	ctx    context.Context
	cancel context.CancelCauseFunc
	chunks *chunks

	// turn is held by one who stores what was put, or who begins to put.
	turn  sync.RWMutex
	pack  *lease           // of the session whose packs are filled; nil: there is none
	wrote []catalog.Number // sessions of packs that are stored
	ended bool
}

// Refill starts to take back what is kept elsewhere.
func (r *Repository) Refill(ctx context.Context) (repo.Refill, error) {
	n, _, err := r.register(ctx, catalog.Request{Session: catalog.Session{Kind: catalog.Refill}})
	if err != nil {
		return nil, fmt.Errorf("start to bring back: %w", err)
	}
	f := &Refill{repo: r, guard: n, lease: r.hold(n)}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	view, err := r.indexes.At(r.log.Seen())
	if err != nil {
		f.cancel(err)
		f.lease.end()
		return nil, errors.Join(err, r.end(n))
	}
	f.chunks = newChunks(view, nil)
	return f, nil
}

// Has reports whether a sound chunk is stored.
func (f *Refill) Has(ctx context.Context, d digest.Digest) (bool, error) {
	f.turn.RLock()
	defer f.turn.RUnlock()
	ok, err := f.chunks.has(ctx, d)
	if err != nil {
		return false, fmt.Errorf("chunk %s: %w", d, err)
	}
	return ok, nil
}

// Put stores an encoded chunk.
func (f *Refill) Put(ctx context.Context, d digest.Digest, raw []byte) (bool, error) {
	_, err := blob.Check(raw)
	stored := false
	if err == nil {
		stored, err = f.put(ctx, d, raw)
	}
	if err != nil {
		return false, fmt.Errorf("store chunk %s: %w", d, err)
	}
	return stored, nil
}

func (f *Refill) put(ctx context.Context, d digest.Digest, raw []byte) (bool, error) {
	for {
		f.turn.RLock()
		if p := f.chunks.packer(); p != nil {
			defer f.turn.RUnlock()
			stored, err := f.chunks.put(ctx, d, raw)
			return stored, f.repo.why(ctx, p.session, err)
		}
		f.turn.RUnlock()
		if err := f.openPacks(ctx); err != nil {
			return false, err
		}
	}
}

// openPacks begins the session of the next packs, unless there is one.
func (f *Refill) openPacks(ctx context.Context) error {
	f.turn.Lock()
	defer f.turn.Unlock()
	switch {
	case f.ended:
		return errEnded
	case f.pack != nil:
		return nil
	}
	n, _, err := f.repo.register(ctx, catalog.Request{Session: catalog.Session{Kind: catalog.Refill, Guard: f.guard}})
	if err != nil {
		return err
	}
	f.pack = f.repo.hold(n)
	f.chunks.use(f.repo.newPacker(f.ctx, n))
	return nil
}

// settle makes what was put so far permanent, and returns the sessions that did.
func (f *Refill) settle(ctx context.Context) ([]catalog.Number, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	if f.pack != nil {
		if err := f.store(ctx); err != nil {
			return nil, err
		}
	}
	return slices.Clone(f.wrote), nil
}

// store stores what was put and lets the session of its packs succeed. The caller has
// the turn.
func (f *Refill) store(ctx context.Context) error {
	p := f.chunks.packer()
	p.flush()
	var runs []catalog.Run
	err := p.wait()
	if err == nil {
		runs, err = p.storeIndexes(ctx)
	}
	if err != nil {
		return f.repo.why(ctx, p.session, err)
	}
	_, err = f.repo.update(ctx, func(tx catalog.Tx) error { return catalog.Commit(tx, p.session, catalog.Success{Runs: runs}) })
	if err != nil {
		return err
	}
	_ = f.repo.remove(f.pack.end()) // a collection removes what is left
	f.pack = nil
	f.wrote = append(f.wrote, p.session)
	return f.chunks.retire()
}

// Begin starts a snapshot that may be older than others of its group.
func (f *Refill) Begin(ctx context.Context, b repo.Begin) (repo.RefillSession, error) {
	if err := b.Snapshot.Check(); err != nil {
		return nil, err
	}
	n, _, err := f.repo.register(ctx, catalog.Request{
		Session: catalog.Session{
			Kind: catalog.Refill, Snapshot: catalog.SnapshotName{Snapshot: b.Snapshot}, Owner: b.Owner, Guard: f.guard,
		},
		Benchmark: b.Benchmark, Old: true,
	})
	if err != nil {
		return nil, fmt.Errorf("bring back %s: %w", b.Snapshot, err)
	}
	s := &Session{
		repo: f.repo, number: n, name: b.Snapshot, kind: catalog.Refill,
		lease: f.repo.hold(n), open: map[*staged]struct{}{}, chunks: f.chunks, refill: f,
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s, nil
}

// Close lets go of the chunks. What was put stays.
func (f *Refill) Close() error {
	f.turn.Lock()
	ended := f.ended
	f.turn.Unlock()
	if ended {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), endTime)
	defer cancel()
	var err error
	if f.ctx.Err() == nil {
		_, err = f.settle(ctx)
	}
	f.turn.Lock()
	defer f.turn.Unlock()
	f.ended = true
	f.cancel(errEnded)
	keys := f.lease.end()
	if f.pack != nil {
		p := f.chunks.packer()
		keys = append(keys, f.pack.end()...)
		p.uploads.Wait()
		if eerr := f.repo.end(p.session); eerr == nil {
			keys = append(keys, p.keys()...)
		} else if !errors.Is(eerr, errGone) {
			err = errors.Join(err, eerr)
		}
	}
	_, cerr := f.repo.update(ctx, func(tx catalog.Tx) error { return catalog.Commit(tx, f.guard, catalog.Success{}) })
	if errors.Is(cerr, catalog.ErrFenced) { // it guards nothing any more
		cerr = nil
	}
	_ = f.repo.remove(keys) // a collection removes what is left
	return errors.Join(err, cerr, f.chunks.close())
}

// PutIndex stores an index as it is.
func (b *Session) PutIndex(ctx context.Context, name names.Archive, r io.Reader) (size uint64, csum digest.Digest, err error) {
	return indexfile.Put(ctx, b.name, name, r, func() (indexfile.File, error) { return b.stage(name) })
}
