package stores

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// foreign is a datastore that PBS has in a bucket: it is read, and changes are
// refused with the reason.
type foreign struct {
	*pbsbucket.Repository
	*cloud
}

// Close closes both.
func (f foreign) Close() error { return errors.Join(f.Repository.Close(), f.cloud.bucket.Close()) }

// Usage is nothing: a bucket does not say how much it holds, and listing all chunks
// whenever somebody looks would be dear.
func (f foreign) Usage(context.Context) (vfs.Usage, error) { return endless(0), nil }

// LastGC is nothing: the server that wrote the bucket keeps it on its own disk.
func (f foreign) LastGC(context.Context) (repo.GCStatus, error) { return repo.GCStatus{}, nil }

// Owner implements Store.
func (f foreign) Owner(ctx context.Context, ns names.Namespace, g names.Group) (names.AuthID, error) {
	groups, err := f.Groups(ctx, ns)
	if err != nil {
		return names.AuthID{}, err
	}
	for _, one := range groups {
		if one.Group == g {
			id, err := names.ParseAuthID(one.Owner)
			if err != nil {
				return names.AuthID{}, nil // nobody's
			}
			return id, nil
		}
	}
	return names.AuthID{}, fmt.Errorf("backup group %s: %w", g, repo.ErrNotFound)
}

// find returns one snapshot of a listing.
func (f foreign) find(ctx context.Context, n names.Snapshot) (repo.SnapshotInfo, error) {
	list, err := f.Snapshots(ctx, n.NS, &n.Group)
	if err != nil {
		return repo.SnapshotInfo{}, err
	}
	for _, one := range list {
		if one.Snapshot == n {
			return one, nil
		}
	}
	return repo.SnapshotInfo{}, fmt.Errorf("snapshot %s: %w", n, repo.ErrNotFound)
}

// Protected implements Store.
func (f foreign) Protected(ctx context.Context, n names.Snapshot) (bool, error) {
	info, err := f.find(ctx, n)
	return info.Protected, err
}

// StoredFiles implements Store. What the manifest does not list is not shown: that
// would take a request for each snapshot.
func (f foreign) StoredFiles(context.Context, names.Snapshot) ([]repo.StoredFile, error) {
	return nil, nil
}

// refused is why the store cannot be changed.
func (f foreign) refused(what string) error {
	return &pbsbucket.ReadOnlyError{Location: f.Location(), What: what, Why: "Holdfast reads it, and changes nothing. Bring its backups into a datastore of this server with a sync job and go on there"}
}

// Mend implements repo.Mender.
func (f foreign) Mend(context.Context, names.Snapshot) (repo.Session, error) {
	return nil, f.refused("mend a snapshot")
}

// Refill implements repo.Refiller.
func (f foreign) Refill(context.Context) (repo.Refill, error) {
	return nil, f.refused("take backups back")
}

// MoveGroup implements repo.Mover.
func (f foreign) MoveGroup(context.Context, names.Namespace, names.Group, names.Namespace, bool) error {
	return f.refused("move a group")
}

// MoveNamespace implements repo.Mover.
func (f foreign) MoveNamespace(context.Context, names.Namespace, repo.MoveNamespaceOptions) error {
	return f.refused("move a namespace")
}
