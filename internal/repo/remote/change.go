package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// CreateNamespace makes a namespace below one that exists.
func (r *Repository) CreateNamespace(ctx context.Context, ns names.Namespace) error {
	if err := ns.Check(); err != nil {
		return err
	}
	if ns.IsRoot() {
		return fmt.Errorf("create namespace: the root namespace: %w", repo.ErrExists)
	}
	q := inNamespace(names.Root)
	q.Set("name", ns.Name())
	q.Set("parent", string(ns.Parent()))
	if err := r.call(ctx, http.MethodPost, r.at("namespace"), q, nil); err != nil {
		return fmt.Errorf("create namespace %s: %w", ns, err)
	}
	return nil
}

// DeleteNamespace removes a namespace with those below it.
func (r *Repository) DeleteNamespace(ctx context.Context, ns names.Namespace, withGroups bool) error {
	if ns.IsRoot() {
		return fmt.Errorf("delete namespace: the root namespace cannot be deleted")
	}
	q := inNamespace(ns)
	q.Set("delete-groups", strconv.FormatBool(withGroups))
	if err := r.call(ctx, http.MethodDelete, r.at("namespace"), q, nil); err != nil {
		return fmt.Errorf("delete namespace %s: %w", ns, err)
	}
	return nil
}

// Forget removes a snapshot.
func (r *Repository) Forget(ctx context.Context, s names.Snapshot) error {
	if err := r.call(ctx, http.MethodDelete, r.at("snapshots"), ofSnapshot(s), nil); err != nil {
		return fmt.Errorf("forget %s: %w", s, err)
	}
	return nil
}

// ForgetGroup removes all snapshots of a group but the protected ones. Servers
// from before release 3.2.11 remove none if one of them is protected.
func (r *Repository) ForgetGroup(ctx context.Context, ns names.Namespace, g names.Group) (res repo.ForgetGroupResult, err error) {
	counts, err := r.atLeast(ctx, 3, 2, 11)
	if err != nil {
		return res, err
	}
	q := ofGroup(ns, g)
	if counts {
		q.Set("error-on-protected", "false")
	} else {
		all, err := r.Snapshots(ctx, ns, &g)
		if err != nil {
			return res, err
		}
		res.Removed = len(all)
	}
	var raw json.RawMessage
	if err := r.call(ctx, http.MethodDelete, r.at("groups"), q, &raw); err != nil {
		return repo.ForgetGroupResult{}, fmt.Errorf("forget group %s: %w", g, err)
	}
	if counts {
		var d items.Deleted
		if err := json.Unmarshal(raw, &d); err != nil {
			return res, fmt.Errorf("forget group %s: the server does not say what it removed: %w", g, err)
		}
		res = repo.ForgetGroupResult{Removed: d.Snapshots, Protected: d.Protected}
	}
	return res, nil
}

// GroupNotes returns a group's notes, "" when there are none.
func (r *Repository) GroupNotes(ctx context.Context, ns names.Namespace, g names.Group) (text string, err error) {
	if err := r.call(ctx, http.MethodGet, r.at("group-notes"), ofGroup(ns, g), &text); err != nil {
		return "", fmt.Errorf("notes of %s: %w", g, err)
	}
	return text, nil
}

// SetGroupNotes replaces a group's notes.
func (r *Repository) SetGroupNotes(ctx context.Context, ns names.Namespace, g names.Group, text string) error {
	q := ofGroup(ns, g)
	q.Set("notes", text)
	if err := r.call(ctx, http.MethodPut, r.at("group-notes"), q, nil); err != nil {
		return fmt.Errorf("notes of %s: %w", g, err)
	}
	return nil
}

// SetOwner gives a group to someone else.
func (r *Repository) SetOwner(ctx context.Context, ns names.Namespace, g names.Group, owner string) error {
	if _, err := names.ParseAuthID(owner); err != nil {
		return err
	}
	q := ofGroup(ns, g)
	q.Set("new-owner", owner)
	if err := r.call(ctx, http.MethodPost, r.at("change-owner"), q, nil); err != nil {
		return fmt.Errorf("owner of %s: %w", g, err)
	}
	return nil
}

// SetNotes replaces the notes of a snapshot.
func (r *Repository) SetNotes(ctx context.Context, s names.Snapshot, text string) error {
	q := ofSnapshot(s)
	q.Set("notes", text)
	if err := r.call(ctx, http.MethodPut, r.at("notes"), q, nil); err != nil {
		return fmt.Errorf("notes of %s: %w", s, err)
	}
	return nil
}

// SetProtected makes a snapshot safe from removal, or lifts that.
func (r *Repository) SetProtected(ctx context.Context, s names.Snapshot, protected bool) error {
	q := ofSnapshot(s)
	q.Set("protected", strconv.FormatBool(protected))
	if err := r.call(ctx, http.MethodPut, r.at("protected"), q, nil); err != nil {
		return fmt.Errorf("protection of %s: %w", s, err)
	}
	return nil
}

// PutLog stores an encoded blob beside a finished snapshot.
func (r *Repository) PutLog(ctx context.Context, s names.Snapshot, raw []byte) error {
	if _, err := blob.Check(raw); err != nil {
		return fmt.Errorf("log of %s: %w", s, err)
	}
	if err := r.upload(ctx, r.at("upload-backup-log"), ofSnapshot(s), raw); err != nil {
		return fmt.Errorf("log of %s: %w", s, err)
	}
	return nil
}
