package datastore

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/verify"
)

// Verify reads snapshots back and compares everything with its checksums. A
// damaged chunk is set aside, so that the next backup stores it again, and the
// verdict goes into the manifest.
func (s *Store) Verify(ctx context.Context, opt repo.VerifyOptions) (repo.VerifyReport, error) {
	return verify.Run(ctx, verifiable{s}, opt)
}

// verifiable is a store in the eyes of a verification. What cannot be written
// down on a read-only file system is reported all the same.
type verifiable struct{ store *Store }

func (v verifiable) Need(n names.Snapshot) error {
	done, err := v.store.finished(n)
	if err == nil && !done {
		err = fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
	}
	return err
}

func (v verifiable) Spaces(ns names.Namespace, below bool) ([]names.Namespace, error) {
	if err := v.store.needNamespace(ns); err != nil {
		return nil, err
	}
	spaces := []names.Namespace{ns}
	if !below {
		return spaces, nil
	}
	all, err := v.store.namespaces(ns)
	return append(spaces, all...), err
}

func (v verifiable) Groups(ns names.Namespace, only *names.Group) ([]names.Group, error) {
	if only == nil {
		return v.store.groups(ns)
	}
	return []names.Group{*only}, v.store.needGroup(ns, *only)
}

func (v verifiable) Finished(ns names.Namespace, g names.Group) ([]names.Snapshot, error) {
	return v.store.finishedTimes(ns, g)
}

func (v verifiable) Open(_ context.Context, n names.Snapshot) (verify.Snapshot, error) {
	snap, err := v.store.open(n)
	if err != nil { // not a typed nil
		return nil, err
	}
	return snap, nil
}

func (v verifiable) SetAside(ctx context.Context, _ verify.Snapshot, d digest.Digest, check func() error) (bool, error) {
	sound, err := v.store.setAside(ctx, d, check)
	if readOnly(err) {
		err = nil
	}
	return sound, err
}

func (v verifiable) MarkLost(_ context.Context, _ verify.Snapshot, d digest.Digest) error {
	err := v.store.markLost(d)
	if readOnly(err) {
		return nil
	}
	return err
}

func (v verifiable) SaveVerdict(ctx context.Context, snap verify.Snapshot, state manifest.VerifyState) error {
	err := v.store.updateManifest(ctx, snap.Name(), func(m *manifest.Manifest) { m.SetVerifyState(state) })
	if readOnly(err) {
		return nil // the verdict is worth having even where it cannot be kept
	}
	return err
}

func (v verifiable) Now() time.Time { return v.store.fs.Now() }

func (v verifiable) TaskID(start time.Time, kind, what string) string {
	return v.store.taskID(start, kind, what)
}
