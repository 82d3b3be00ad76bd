package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// maxManifest bounds a manifest, stored and decoded.
const maxManifest = 16 << 20

// loadManifest reads a snapshot's manifest. It fails with repo.ErrNotFound
// when there is none, and with a *repo.CorruptError for bytes that are none.
func (s *Store) loadManifest(n names.Snapshot) (*manifest.Manifest, error) {
	raw, err := s.readFile(n.Path()+"/"+manifestName, nil, maxManifest)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
	case errors.Is(err, errTooLong):
		return nil, badManifest(n, err)
	case err != nil:
		return nil, fmt.Errorf("manifest of %s: %w", n, err)
	}
	text, err := s.codecs.decode(raw, maxManifest)
	if err != nil {
		return nil, badManifest(n, err)
	}
	m, err := manifest.Parse(text)
	if err != nil {
		return nil, badManifest(n, err)
	}
	if !m.Describes(n) {
		return nil, badManifest(n, fmt.Errorf("it belongs to %s/%s/%s", m.BackupType, m.BackupID, names.FormatTime(m.BackupTime)))
	}
	return m, nil
}

func badManifest(n names.Snapshot, err error) error {
	return &repo.CorruptError{What: "manifest of " + n.String(), Err: err}
}

// storeManifest puts a manifest in place, durably unless syncing is off.
func (s *Store) storeManifest(n names.Snapshot, m *manifest.Manifest) error {
	text, err := m.Marshal()
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", n, err)
	}
	raw, err := s.codecs.encode(text)
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", n, err)
	}
	if err := s.replaceFile(n.Path()+"/"+manifestName, raw, s.opt.Sync != SyncNone); err != nil {
		return fmt.Errorf("manifest of %s: %w", n, err)
	}
	return nil
}

// updateManifest changes the unsigned part of a manifest under its lock.
func (s *Store) updateManifest(ctx context.Context, n names.Snapshot, change func(*manifest.Manifest)) (err error) {
	u, err := s.lockManifest(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	m, err := s.loadManifest(n)
	if err != nil {
		return err
	}
	change(m)
	return s.storeManifest(n, m)
}

// SetNotes replaces the notes of a snapshot.
func (s *Store) SetNotes(ctx context.Context, n names.Snapshot, text string) error {
	return s.updateManifest(ctx, n, func(m *manifest.Manifest) { m.SetNotes(text) })
}

// SetProtected makes a snapshot safe from removal, or lifts that.
func (s *Store) SetProtected(_ context.Context, n names.Snapshot, protected bool) (err error) {
	u, err := s.lockSnapshot(n, lockExclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, u.Unlock()) }()
	done, err := s.finished(n)
	if err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
	}
	marker := n.Path() + "/" + names.Protected
	if protected {
		err = touchFile(s.fs, marker, filePerm)
	} else {
		err = ignoreMissing(s.fs.Remove(marker))
	}
	if err != nil {
		return fmt.Errorf("protection of %s: %w", n, err)
	}
	return s.fs.SyncDir(n.Path())
}
