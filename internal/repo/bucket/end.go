package bucket

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// settle gives everything back after the snapshot is there for good: what cannot
// be given back is no reason to call a backup failed.
func (b *Session) settle() {
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	_ = b.repo.remove(b.release())
}

// Abort ends the session and removes what it stored.
func (b *Session) Abort() error {
	b.mu.Lock()
	ended, open := b.ended, b.open
	b.ended, b.open = true, nil
	b.mu.Unlock()
	if ended {
		return nil
	}
	for f := range open {
		_ = f.Close() // its content goes anyway
	}
	keys := b.release()
	err := b.repo.end(b.number)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("end session %s, which others can do after %s: %w", b.number, b.repo.opt.Lease, err)
	}
	_ = b.repo.remove(append(keys, b.stored()...)) // a collection removes what is left
	return nil
}

// stored are the keys of objects that may be there.
func (b *Session) stored() []string {
	keys := []string{catalog.SnapshotObject(b.number), catalog.LogObject(b.number)}
	if b.refill != nil {
		return keys
	}
	return append(keys, b.chunks.pack.keys()...)
}

// release ends what runs, and returns the keys of objects that nobody needs any
// more.
func (b *Session) release() []string {
	b.cancel(errEnded)
	keys := b.lease.end()
	if b.refill == nil {
		_ = b.chunks.close() // temporary files, which end with the process at the latest
	}
	for _, f := range b.files {
		_ = f.Close()
	}
	if b.prev != nil {
		_ = b.prev.Close()
	}
	return keys
}

// endTime bounds what is done after a session failed.
const endTime = time.Minute

// end ends sessions without success. errGone is one that has ended: by somebody
// else, who has said what is to be removed, or with success, of which nobody knew.
func (r *Repository) end(numbers ...catalog.Number) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	_, err := r.update(ctx, func(tx catalog.Tx) error {
		for _, n := range numbers {
			if _, ok := tx.Get(catalog.SessionKey(n)); !ok {
				return fmt.Errorf("%s: %w", n, errGone)
			}
			if err := catalog.End(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

var errGone = errors.New("it has ended already")

// remove removes objects that nobody needs, as far as that is allowed.
func (r *Repository) remove(keys []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	for some := range slices.Chunk(keys, objstore.MaxDelete) {
		if err := r.store.Delete(ctx, some); err != nil {
			return err
		}
	}
	return nil
}
