package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/catalog"
)

// unlocked makes a change, and ends dead sessions that are in its way.
func (r *Repository) unlocked(ctx context.Context, decide func(catalog.Tx) error) (uint64, error) {
	var dead []catalog.Number
	for {
		n, err := r.update(ctx, func(tx catalog.Tx) error {
			for _, d := range dead {
				if err := catalog.End(tx, d); err != nil {
					return err
				}
			}
			return decide(tx)
		})
		locked, ok := errors.AsType[*catalog.LockedError](err)
		if !ok {
			return n, err
		}
		over, until, oerr := r.over(ctx, locked.Session)
		if oerr != nil {
			return 0, errors.Join(err, oerr)
		}
		if !over {
			locked.Until = until
			return 0, err
		}
		dead = append(dead, locked.Session.Number)
	}
}

// SetGroupNotes replaces a group's notes; "" removes them.
func (r *Repository) SetGroupNotes(ctx context.Context, ns names.Namespace, g names.Group, text string) error {
	_, err := r.update(ctx, func(tx catalog.Tx) error { return catalog.SetGroupNotes(tx, ns, g, text) })
	return err
}

// SetOwner gives a group to someone else.
func (r *Repository) SetOwner(ctx context.Context, ns names.Namespace, g names.Group, owner string) error {
	_, err := r.unlocked(ctx, func(tx catalog.Tx) error { return catalog.SetOwner(tx, ns, g, owner) })
	return err
}

// SetNotes replaces the notes of a snapshot.
func (r *Repository) SetNotes(ctx context.Context, n names.Snapshot, text string) error {
	_, err := r.update(ctx, func(tx catalog.Tx) error {
		return catalog.ChangeManifest(tx, n, func(m *manifest.Manifest) { m.SetNotes(text) })
	})
	return err
}

// SetProtected makes a snapshot safe from removal, or lifts that.
func (r *Repository) SetProtected(ctx context.Context, n names.Snapshot, protected bool) error {
	_, err := r.update(ctx, func(tx catalog.Tx) error { return catalog.SetProtected(tx, n, protected) })
	return err
}

// Forget removes a snapshot, and its group with the last one. What a dead session
// left of an unfinished one goes too.
func (r *Repository) Forget(ctx context.Context, n names.Snapshot) error {
	if err := n.Check(); err != nil {
		return err
	}
	if _, err := r.unlocked(ctx, func(tx catalog.Tx) error { return catalog.Forget(tx, n) }); err != nil {
		return fmt.Errorf("forget %s: %w", n, err)
	}
	return nil
}

// ForgetGroup removes all snapshots of a group but the protected ones.
func (r *Repository) ForgetGroup(ctx context.Context, ns names.Namespace, g names.Group) (res repo.ForgetGroupResult, err error) {
	_, err = r.unlocked(ctx, func(tx catalog.Tx) (err error) {
		res, err = catalog.ForgetGroup(tx, ns, g)
		return err
	})
	return res, err
}

// CreateNamespace makes a namespace below one that exists.
func (r *Repository) CreateNamespace(ctx context.Context, ns names.Namespace) error {
	if err := ns.Check(); err != nil {
		return err
	}
	if _, err := r.update(ctx, func(tx catalog.Tx) error { return catalog.CreateNamespace(tx, ns) }); err != nil {
		return fmt.Errorf("create namespace %s: %w", ns, err)
	}
	return nil
}

// DeleteNamespace removes a namespace with those below it, or nothing.
func (r *Repository) DeleteNamespace(ctx context.Context, ns names.Namespace, withGroups bool) error {
	if _, err := r.unlocked(ctx, func(tx catalog.Tx) error { return catalog.DeleteNamespace(tx, ns, withGroups) }); err != nil {
		return fmt.Errorf("delete namespace %s: %w", ns, err)
	}
	return nil
}

// PutLog puts the log of a backup beside its finished snapshot.
func (r *Repository) PutLog(ctx context.Context, n names.Snapshot, raw []byte) error {
	if err := n.Check(); err != nil {
		return err
	}
	_, err := blob.Check(raw)
	if err == nil {
		err = r.putLog(ctx, n, raw)
	}
	if err != nil {
		return fmt.Errorf("log of %s: %w", n, err)
	}
	return nil
}

func (r *Repository) putLog(ctx context.Context, n names.Snapshot, raw []byte) error {
	s, err := r.view(ctx)
	if err != nil {
		return err
	}
	rec, err := catalog.NeedSnapshot(s, n)
	if err != nil {
		return err
	}
	if rec.Log > 0 {
		return repo.ErrExists
	}
	key := catalog.LogObject(rec.Session)
	size := int64(len(raw))
	_, err = r.store.Put(ctx, key, bytes.NewReader(raw), objstore.PutOptions{If: objstore.IfAbsent, Retain: r.retention()})
	first := error(nil)
	if errors.Is(err, objstore.ErrPrecondition) {
		// Somebody was faster, or did not get as far as to say that it is there.
		info, err := r.store.Stat(ctx, key)
		if err != nil {
			return err
		}
		size, first = info.Size, repo.ErrExists
	} else if err != nil {
		return err
	}
	_, err = r.unlocked(ctx, func(tx catalog.Tx) error { return catalog.SetLog(tx, n, rec.Session, size) })
	if err != nil {
		return err
	}
	return first
}
