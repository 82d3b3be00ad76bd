// Package pbsbucket reads what a Proxmox Backup Server keeps in a bucket: a
// datastore whose backend is S3, one object for each chunk and each file.
//
// # Objects
//
// The keys, below the name of the datastore, which is the prefix of the address:
//
//	.in-use                                    the host that uses the bucket
//	.chunks/<4 hex>/<64 hex>                   a chunk, as it would be in a file
//	.chunks/<4 hex>/<64 hex>.<n>.bad           a damaged one, set aside
//	.cnt/[ns/<a>/ns/<b>/]<type>/<id>/owner     and notes, of a group
//	.cnt/[…]<type>/<id>/<time>/<file>          indexes, blobs, the manifest, client.log.blob
//	.cnt/[…]<type>/<id>/<time>/.protected      a marker
//	.cnt/ns/<a>/[ns/<b>/].namespace            a namespace exists
//
// # Reading
//
// A listing asks for the keys of the groups that it is about, a thousand with each
// request, and for the manifests, many at a time. Namespaces are found without
// listing what is in their groups. Nothing is kept between calls.
//
// A snapshot that is open holds no lock: there is none that the server would see. If
// the server removes it and collects its garbage meanwhile, chunks are missing.
//
// # Writing
//
// Nothing is written. The server has a copy of all indexes and manifests on its own
// disk and goes by that: it would not see what others change, and its garbage
// collection would remove the chunks of snapshots that it does not know.
//
// # Errors
//
// Those of internal/repo and, where the bucket does not answer, of internal/objstore.
// What writes is a *ReadOnlyError.
package pbsbucket

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// Repository is a datastore in a bucket. It is safe for concurrent use.
type Repository struct {
	store objstore.Store
}

var _ repo.Repository = (*Repository)(nil)

// Open opens the datastore that lies in s. It closes s with itself, if that can be
// closed.
func Open(ctx context.Context, s objstore.Store) (*Repository, error) {
	there, err := Present(ctx, s)
	if err == nil && !there {
		err = fmt.Errorf("%w: a Proxmox Backup Server has nothing there", repo.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", s.Location(), err)
	}
	return &Repository{s}, nil
}

// Present reports whether a Proxmox Backup Server has a datastore in s. One that was
// taken out of the server's configuration and kept has no names.S3InUse any more.
func Present(ctx context.Context, s objstore.Store) (bool, error) {
	for _, prefix := range []string{names.ChunkDir + "/", contents} {
		list, _, err := s.List(ctx, prefix, "", 1)
		if err != nil || len(list) > 0 {
			return len(list) > 0, err
		}
	}
	_, err := s.Stat(ctx, names.S3InUse)
	if errors.Is(err, objstore.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Location is the address of the bucket.
func (r *Repository) Location() string { return r.store.Location() }

// Close closes the bucket.
func (r *Repository) Close() error {
	if c, ok := r.store.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Usage is what the chunks take; a bucket has no end. Their keys are listed for that.
func (r *Repository) Usage(ctx context.Context) (vfs.Usage, error) {
	var u vfs.Usage
	for o, err := range objstore.All(ctx, r.store, names.ChunkDir+"/", "") {
		if err != nil {
			return vfs.Usage{}, err
		}
		u.Used += uint64(o.Size)
	}
	u.Total = u.Used
	return u, nil
}

// LastGC cannot be told: the server keeps it on its own disk.
func (r *Repository) LastGC(context.Context) (repo.GCStatus, error) {
	return repo.GCStatus{}, fmt.Errorf("%s: the Proxmox Backup Server whose datastore lies there keeps the status of its garbage collection on its own disk: %w",
		r.Location(), errors.ErrUnsupported)
}
