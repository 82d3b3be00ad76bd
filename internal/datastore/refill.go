package datastore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/cancel"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/didx"
	"github.com/holdfast-backup/holdfast/internal/format/fidx"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

var _ repo.Refiller = (*Store)(nil)

// Refill is backups on their way back. Memory: the digests of chunks that were
// seen to be sound, 16 bytes each, up to maxSound.
type Refill struct {
	store  *Store
	writer *writer

	mu    sync.Mutex
	sound *digestSet
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
	return &Refill{store: s, writer: w, sound: newDigestSet(maxSound)}, nil
}

// Close lets go of the chunks.
func (r *Refill) Close() error { return r.writer.release() }

// Has reports whether a sound chunk is stored, and touches it.
func (r *Refill) Has(ctx context.Context, d digest.Digest) (bool, error) {
	r.mu.Lock()
	if r.sound.has(d) {
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
		r.sound.add(d)
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
	r.sound.add(d)
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

// PutIndex stores an index as it is.
func (b *Session) PutIndex(ctx context.Context, name names.Archive, r io.Reader) (size uint64, csum digest.Digest, err error) {
	if k := name.Kind(); k != names.Fidx && k != names.Didx {
		return 0, csum, fmt.Errorf("store index %s: want a name that ends in .fidx or .didx", name)
	}
	var id [16]byte // the index has its own
	f, err := b.createIndex(name, &id)
	if err != nil {
		return 0, csum, fmt.Errorf("store index %s: %w", name, err)
	}
	size, csum, err = f.fill(ctx, r)
	if errors.Is(err, fidx.ErrFormat) || errors.Is(err, didx.ErrFormat) {
		err = b.store.badArchive(b.name, name, err)
	}
	if err := f.settle(err); err != nil {
		return 0, csum, fmt.Errorf("store index %s: %w", name, err)
	}
	return size, csum, nil
}

// fill writes all of an index file and reads it back.
func (f *indexFile) fill(ctx context.Context, r io.Reader) (size uint64, csum digest.Digest, err error) {
	n, err := io.Copy(f, cancel.Reader(ctx, r))
	if err != nil {
		return 0, csum, err
	}
	var header digest.Digest
	if f.name.Kind() == names.Fidx {
		x, err := fidx.Open(f, n)
		if err != nil {
			return 0, csum, err
		}
		size, header = x.Size, x.Header.Sum
		csum, err = x.Sum()
		if err != nil {
			return 0, csum, err
		}
	} else {
		x, err := didx.Open(f, n)
		if err != nil {
			return 0, csum, err
		}
		size, header = uint64(x.Size()), x.Header.Sum
		csum, err = x.Sum()
		if err != nil {
			return 0, csum, err
		}
	}
	if csum != header {
		return 0, csum, &repo.CorruptError{
			What: "archive " + f.name.String(), Err: fmt.Errorf("checksum %s, its own header says %s", csum, header),
		}
	}
	return size, csum, nil
}
