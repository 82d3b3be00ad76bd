package pbsbucket

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// ReadOnlyError refuses a change. It is errors.ErrUnsupported.
type ReadOnlyError struct {
	Location string
	What     string // "back up", "remove a snapshot"
	Why      string
}

func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("%s: cannot %s: a Proxmox Backup Server has its datastore there; %s", e.Location, e.What, e.Why)
}

func (*ReadOnlyError) Unwrap() error { return errors.ErrUnsupported }

// newcomer is why nothing can be added.
func (r *Repository) newcomer(what string) error {
	return &ReadOnlyError{r.Location(), what, "it knows only the backups that went through it, and its garbage collection would remove the chunks of others. " +
		"Back up to the server, or bring its backups into another repository with sync and go on there"}
}

// change is why nothing can be changed.
func (r *Repository) change(what string) error {
	return &ReadOnlyError{r.Location(), what, "it goes by the copy on its own disk, and would not see the change. Use the server for it, " +
		"or bring its backups into another repository with sync and go on there"}
}

// Begin is refused.
func (r *Repository) Begin(context.Context, repo.Begin) (repo.Session, error) {
	return nil, r.newcomer("back up")
}

// CreateNamespace is refused.
func (r *Repository) CreateNamespace(context.Context, names.Namespace) error {
	return r.change("make a namespace")
}

// DeleteNamespace is refused.
func (r *Repository) DeleteNamespace(context.Context, names.Namespace, bool) error {
	return r.change("remove a namespace")
}

// Forget is refused.
func (r *Repository) Forget(context.Context, names.Snapshot) error {
	return r.change("remove a snapshot")
}

// ForgetGroup is refused.
func (r *Repository) ForgetGroup(context.Context, names.Namespace, names.Group) (repo.ForgetGroupResult, error) {
	return repo.ForgetGroupResult{}, r.change("remove a group")
}

// SetGroupNotes is refused.
func (r *Repository) SetGroupNotes(context.Context, names.Namespace, names.Group, string) error {
	return r.change("change the notes of a group")
}

// SetOwner is refused.
func (r *Repository) SetOwner(context.Context, names.Namespace, names.Group, string) error {
	return r.change("change the owner of a group")
}

// SetNotes is refused.
func (r *Repository) SetNotes(context.Context, names.Snapshot, string) error {
	return r.change("change the notes of a snapshot")
}

// SetProtected is refused.
func (r *Repository) SetProtected(context.Context, names.Snapshot, bool) error {
	return r.change("protect a snapshot")
}

// PutLog is refused.
func (r *Repository) PutLog(context.Context, names.Snapshot, []byte) error {
	return r.change("store a log")
}

// GC is refused: which chunks the backups need that run now, only the server knows.
func (r *Repository) GC(context.Context, repo.GCOptions) (repo.GCStatus, error) {
	return repo.GCStatus{}, &ReadOnlyError{r.Location(), "collect garbage", "which chunks its running backups need, only it knows. Have the server do it"}
}
