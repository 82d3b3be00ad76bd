package bucket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/reading"
	"github.com/holdfast-backup/holdfast/internal/repo/indexfile"
)

var errEnded = errors.New("the session has ended")

// Session writes one snapshot.
type Session struct {
	repo   *Repository
	number catalog.Number
	name   names.Snapshot
	kind   catalog.Kind
	lease  *lease
	ctx    context.Context // of everything that runs in the background
	cancel context.CancelCauseFunc
	base   *catalog.Base     // what the snapshot builds on, or what is mended; nil: nothing
	prev   *reading.Snapshot // nil: none
	chunks *chunks
	refill *Refill // whose chunks they are; nil: they are its own

	count, plain, encoded, duplicates atomic.Uint64

	mu     sync.Mutex
	open   map[*staged]struct{} // being written
	files  []*staged            // complete
	spoilt bool                 // an index came to nothing
	ended  bool
}

// Begin starts a backup. It fails with a *catalog.LockedError when another backup
// of the group runs, repo.ErrExists when there is a snapshot of that time,
// repo.ErrOwner when the group is someone else's.
func (r *Repository) Begin(ctx context.Context, b repo.Begin) (repo.Session, error) {
	if err := b.Snapshot.Check(); err != nil {
		return nil, err
	}
	ses, err := r.begin(ctx, catalog.Request{
		Session:   catalog.Session{Kind: catalog.Backup, Snapshot: catalog.SnapshotName{Snapshot: b.Snapshot}, Owner: b.Owner},
		Benchmark: b.Benchmark,
	})
	if err != nil {
		return nil, fmt.Errorf("start backup %s: %w", b.Snapshot, err)
	}
	if err := ses.openBase(ctx); err != nil {
		return nil, fmt.Errorf("start backup %s: %w", b.Snapshot, errors.Join(err, ses.Abort()))
	}
	return ses, nil
}

// openBase opens the previous snapshot, unless it is no base: one that has a chunk
// which was found damaged would make the new one so.
func (b *Session) openBase(ctx context.Context) error {
	if b.base == nil {
		return nil
	}
	prev, err := b.repo.openRecord(ctx, b.base.Name, b.base.Snapshot)
	if err == nil {
		var sound bool
		if sound, err = b.isSound(ctx, prev); sound {
			b.prev = prev
			return nil
		}
		err = errors.Join(err, prev.Close())
	}
	b.base = nil // everything is read and stored again
	if _, bad := errors.AsType[*repo.CorruptError](err); bad || errors.Is(err, repo.ErrNotFound) {
		return nil
	}
	return err
}

// isSound reports whether a snapshot has no chunk that is lost.
func (b *Session) isSound(ctx context.Context, s *reading.Snapshot) (bool, error) {
	bad, err := catalog.BadChunks(b.repo.log.Seen())
	if err != nil {
		return false, err
	}
	for d, at := range bad {
		if !at.Lost() {
			continue
		}
		m, err := s.Map(ctx)
		if err != nil {
			return false, err
		}
		if _, has, err := m.Find(d); has || err != nil {
			return false, err
		}
	}
	return true, nil
}

// begin makes the session's entry. The caller decides on its previous snapshot.
func (r *Repository) begin(ctx context.Context, q catalog.Request) (*Session, error) {
	n, base, err := r.register(ctx, q)
	if err != nil {
		return nil, err
	}
	view, err := r.indexes.At(r.log.Seen())
	if err != nil {
		return nil, errors.Join(err, r.end(n))
	}
	s := &Session{
		repo: r, number: n, name: q.Snapshot.Snapshot, kind: q.Kind, base: base,
		lease: r.hold(n), open: map[*staged]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.chunks = newChunks(view, r.newPacker(s.ctx, n))
	return s, nil
}

// register makes the entry that begins a session. Dead ones that are in the way
// are ended by the same entry.
func (r *Repository) register(ctx context.Context, q catalog.Request) (catalog.Number, *catalog.Base, error) {
	q.Process, q.Lease = r.opt.Process, int(r.opt.Lease/time.Second)
	var base *catalog.Base
	n, err := r.unlocked(ctx, func(tx catalog.Tx) (err error) {
		base, err = catalog.Begin(tx, q)
		return err
	})
	return catalog.Number(n), base, err
}

// Snapshot names the snapshot being written.
func (b *Session) Snapshot() names.Snapshot { return b.name }

// Previous is the base whose chunks are known; nil when there is none.
func (b *Session) Previous() repo.Snapshot {
	if b.prev == nil {
		return nil
	}
	return b.prev
}

// live fails after the end of the session.
func (b *Session) live() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errEnded
	}
	return nil
}

// Has reports whether a sound chunk is stored.
func (b *Session) Has(ctx context.Context, d digest.Digest) (bool, error) {
	if err := b.live(); err != nil {
		return false, fmt.Errorf("chunk %s: %w", d, err)
	}
	ok, err := b.chunks.has(ctx, d)
	if err != nil {
		return false, fmt.Errorf("chunk %s: %w", d, b.why(ctx, err))
	}
	if ok {
		b.duplicates.Add(1)
	}
	return ok, nil
}

// Put stores an encoded chunk of plain bytes.
func (b *Session) Put(ctx context.Context, d digest.Digest, plain int, raw []byte) (bool, error) {
	if plain < 1 || plain > blob.MaxChunk {
		return false, fmt.Errorf("store chunk %s: %d plain bytes, want 1 to %d", d, plain, blob.MaxChunk)
	}
	err := b.live()
	stored := false
	if err == nil {
		stored, err = b.chunks.put(ctx, d, raw)
	}
	if err != nil {
		return false, fmt.Errorf("store chunk %s: %w", d, b.why(ctx, err))
	}
	b.count.Add(1)
	b.plain.Add(uint64(plain))
	b.encoded.Add(uint64(len(raw)))
	if !stored {
		b.duplicates.Add(1)
	}
	return stored, nil
}

// PutBlob stores an encoded blob under its name.
func (b *Session) PutBlob(_ context.Context, name names.Archive, raw []byte) error {
	if name.Kind() != names.Blob || name == names.Manifest {
		return fmt.Errorf("store %s: want a name that ends in .blob, other than %s", name, names.Manifest)
	}
	_, err := blob.Check(raw)
	if err == nil {
		err = b.stageBlob(name, raw)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}

// CreateFixed begins a fixed index. size -1 announces a stream, whose size Grow
// tells later.
func (b *Session) CreateFixed(name names.Archive, size int64, chunkSize int) (repo.FixedWriter, error) {
	w, err := indexfile.NewFixed(name, size, chunkSize, b.indexOptions(name))
	if err != nil { // not a typed nil
		return nil, err
	}
	return w, nil
}

// CreateDynamic begins a dynamic index.
func (b *Session) CreateDynamic(name names.Archive) (repo.DynamicWriter, error) {
	w, err := indexfile.NewDynamic(name, b.indexOptions(name))
	if err != nil { // not a typed nil
		return nil, err
	}
	return w, nil
}

func (b *Session) indexOptions(name names.Archive) indexfile.Options {
	return indexfile.Options{
		Create: func() (indexfile.File, error) { return b.stage(name) },
		Now:    b.repo.opt.Now(), Rand: b.repo.opt.Rand,
	}
}
