package datastore

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/digestset"
)

var _ repo.Refiller = (*Store)(nil)

// Refill is backups on their way back. Memory: the digests of chunks that were
// seen to be sound, 16 bytes each, up to maxSound.
type Refill struct {
	store  *Store
	writer *writer

	mu    sync.Mutex
	sound *digestset.Set
	spare [][]byte // buffers of hasChunk: as many as calls at a time
}

// maxSound bounds what a refill remembers to 32 MiB: 2 million chunks. Those
// beyond are read again to see that they are there.
const maxSound = 1 << 21

// Refill starts to take back what is kept elsewhere. No garbage collection
// removes a chunk meanwhile that it has seen or stored.
func (s *Store) Refill(context.Context) (repo.Refill, error) {
	w, err := s.register()
	if err != nil {
		return nil, err
	}
	return &Refill{store: s, writer: w, sound: digestset.New(maxSound)}, nil
}

// Close lets go of the chunks.
func (r *Refill) Close() error { return r.writer.release() }

// Has reports whether a sound chunk is stored, and touches it.
func (r *Refill) Has(ctx context.Context, d digest.Digest) (bool, error) {
	r.mu.Lock()
	if r.sound.Has(d) {
		r.mu.Unlock()
		return true, nil
	}
	var buf []byte
	if n := len(r.spare); n > 0 {
		buf, r.spare = r.spare[n-1], r.spare[:n-1]
	}
	r.mu.Unlock()
	ok, buf, err := r.store.hasChunk(ctx, d, buf)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spare = append(r.spare, buf[:0])
	if ok && err == nil {
		r.sound.Add(d)
	}
	return ok, err
}

// Put stores an encoded chunk.
func (r *Refill) Put(ctx context.Context, d digest.Digest, raw []byte) (bool, error) {
	if _, err := blob.Check(raw); err != nil {
		return false, fmt.Errorf("store chunk %s: %w", d, err)
	}
	stored, err := r.store.putChunk(ctx, d, raw)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sound.Add(d)
	return stored, nil
}

// Begin starts a snapshot that may be older than others of its group.
func (r *Refill) Begin(ctx context.Context, b repo.Begin) (repo.RefillSession, error) {
	if err := b.Snapshot.Check(); err != nil {
		return nil, err
	}
	ses, err := r.store.begin(ctx, b, func(*Session, context.Context) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("bring back %s: %w", b.Snapshot, err)
	}
	ses.refill = r
	return ses, nil
}

// whole reports whether all chunks of a snapshot are there.
func (r *Refill) whole(ctx context.Context, n names.Snapshot) error {
	files, err := r.store.archiveNames(n)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !strings.HasSuffix(f, ".fidx") && !strings.HasSuffix(f, ".didx") {
			continue
		}
		_, err := r.store.walkIndex(n.Path()+"/"+f, func(d digest.Digest) error {
			ok, err := r.Has(ctx, d)
			if err == nil && !ok {
				err = fmt.Errorf("%w: %s of %s", repo.ErrChunkMissing, d, f)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
