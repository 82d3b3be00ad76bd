package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/resume"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

var _ repo.Mender = (*Repository)(nil)

// Mend starts to store a finished snapshot anew. It fails with a
// *catalog.LockedError when a backup of the group runs. Who reads the snapshot
// goes on reading what was there.
func (r *Repository) Mend(ctx context.Context, n names.Snapshot) (repo.Session, error) {
	if err := n.Check(); err != nil {
		return nil, err
	}
	s, err := r.begin(ctx, catalog.Request{Session: catalog.Session{Kind: catalog.Mend, Snapshot: catalog.SnapshotName{Snapshot: n}}})
	if err != nil {
		return nil, fmt.Errorf("mend %s: %w", n, err)
	}
	return s, nil
}

// keepLog copies the client's log, which lies below the number of the session that
// is replaced.
func (b *Session) keepLog(ctx context.Context) error {
	if b.base.Log == 0 {
		return nil
	}
	raw, _, err := resume.ReadAll(ctx, b.repo.store, catalog.LogObject(b.base.Session), blob.MaxPlain+blob.EncryptedHeaderSize)
	if errors.Is(err, objstore.ErrNotFound) { // it is lost with or without this
		return nil
	}
	if err == nil {
		err = b.repo.create(ctx, catalog.LogObject(b.number), bytes.NewReader(raw))
	}
	if err != nil {
		return fmt.Errorf("copy the client's log: %w", err)
	}
	return nil
}
