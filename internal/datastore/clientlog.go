package datastore

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// PutLog puts the log of a backup beside its finished snapshot. The snapshot's
// lock keeps its removal out, that of the manifest another log.
func (s *Store) PutLog(ctx context.Context, n names.Snapshot, raw []byte) error {
	if err := n.Check(); err != nil {
		return err
	}
	_, err := blob.Check(raw)
	if err == nil {
		err = s.putLog(ctx, n, raw)
	}
	if err != nil {
		return fmt.Errorf("log of %s: %w", n, err)
	}
	return nil
}

func (s *Store) putLog(ctx context.Context, n names.Snapshot, raw []byte) (err error) {
	snap, err := s.open(n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	u, err := s.lockManifest(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	there, err := exists(s.fs, n.Path()+"/"+clientLog)
	if err != nil {
		return err
	}
	if there {
		return repo.ErrExists
	}
	return s.replaceFile(n.Path()+"/"+clientLog, raw, s.opt.Sync != SyncNone)
}
