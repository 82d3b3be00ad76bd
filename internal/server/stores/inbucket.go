package stores

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/cache"
	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket"
	"github.com/holdfast-backup/holdfast/internal/repo/pbsbucket"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
	"github.com/holdfast-backup/holdfast/internal/vfs"
)

// inBucket is a store in an object store.
type inBucket struct {
	config  Config
	backend Backend
	client  buckets.Client
}

func (i inBucket) same(other place) bool {
	o, ok := other.(inBucket)
	return ok && i.backend == o.backend && i.config.Path == o.config.Path && i.client.Same(o.client)
}

func (i inBucket) create(ctx context.Context, _ func(done, total int)) error {
	if i.client.Has(buckets.NoConditions) {
		return fmt.Errorf("the engine of %q knows no conditions (%s), and a repository cannot be kept without", i.client.ID, buckets.NoConditions)
	}
	b, err := i.client.Open(i.backend.Bucket, i.backend.Prefix)
	if err != nil {
		return err
	}
	foreign, err := pbsbucket.Present(ctx, b)
	switch {
	case err != nil:
	case foreign:
		err = fmt.Errorf("a Proxmox Backup Server has a datastore there: %w", repo.ErrExists)
	default:
		err = bucket.Create(ctx, b, bucket.CreateOptions{})
	}
	return errors.Join(err, b.Close())
}

func (i inBucket) open(ctx context.Context) (Store, error) {
	b, err := i.client.Open(i.backend.Bucket, i.backend.Prefix)
	if err != nil {
		return nil, err
	}
	st, err := i.openIn(ctx, b)
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return st, nil
}

// openIn opens the repository in a bucket, in whichever of the two layouts.
func (i inBucket) openIn(ctx context.Context, b *buckets.Bucket) (Store, error) {
	id, err := bucket.Identify(ctx, b)
	if err == nil {
		r, err := bucket.Open(ctx, i.cached(b, id, bucket.Unchanging), bucket.Options{Location: b.Location(), Engine: b})
		if err != nil { // not a typed nil
			return nil, err
		}
		return ours{r, &cloud{b}}, nil
	}
	if !errors.Is(err, objstore.ErrNotFound) {
		return nil, err
	}
	chunks := func(key string) bool { return strings.HasPrefix(key, names.ChunkDir+"/") }
	p, err := pbsbucket.Open(ctx, i.cached(b, b.Location(), chunks))
	if errors.Is(err, repo.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s holds no repository", repo.ErrNotFound, b.Location())
	}
	if err != nil {
		return nil, err
	}
	return foreign{p, &cloud{b}}, nil
}

// cached is the bucket with a cache, if there is to be one. The scope is what the keys
// belong to: a repository that was made anew in the same place has others.
func (i inBucket) cached(b *buckets.Bucket, scope string, keep func(key string) bool) objstore.Store {
	if i.backend.Cache == 0 || i.config.Path == "" {
		return b
	}
	return cache.New(b, filepath.Join(i.config.Path, cacheDir), cache.Options{Size: i.backend.Cache, Scope: scope, Keep: keep})
}

// cacheDir is where the cache is below the path of the datastore, so that what PBS
// has there is left alone.
const cacheDir = ".holdfast/objects"

// ours is a repository with its bucket.
type ours struct {
	*bucket.Repository
	*cloud
}

// Location names the repository for people.
func (o ours) Location() string { return o.Repository.Location() }

// Usage is what the last collection has counted, and room without an end.
func (o ours) Usage(ctx context.Context) (vfs.Usage, error) {
	u, err := o.Repository.Usage(ctx)
	return endless(u.Used), err
}

// Close closes both.
func (o ours) Close() error { return errors.Join(o.Repository.Close(), o.cloud.bucket.Close()) }

// cloud is a bucket in which a store lies.
type cloud struct{ bucket *buckets.Bucket }

// Traffic is what was asked of the engine since the store was opened.
func (c *cloud) Traffic() connect.Traffic { return c.bucket.Traffic() }

// Traffic is what was asked of an object store since the store was opened; ok is false
// for one in a directory.
func (h *Handle) Traffic() (t connect.Traffic, ok bool) {
	c, ok := h.Store.(interface{ Traffic() connect.Traffic })
	if ok {
		t = c.Traffic()
	}
	return t, ok
}

// room is what is said to be free in a bucket: clients divide by the sum, and warn
// when nothing is.
const room = 1 << 50

func endless(used uint64) vfs.Usage {
	return vfs.Usage{Total: used + room, Used: used, Available: room}
}
