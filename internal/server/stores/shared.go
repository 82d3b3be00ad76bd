package stores

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
)

// place is where a store is, and how it is used.
type place interface {
	same(place) bool
	create(ctx context.Context, progress func(done, total int)) error
	open(context.Context) (Store, error)
}

// directory is a store on a file system.
type directory struct {
	path string
	info os.FileInfo // nil: it is not there
	sync datastore.SyncLevel
}

func (d directory) same(other place) bool {
	o, ok := other.(directory)
	return ok && d.path == o.path && d.sync == o.sync && d.info != nil && o.info != nil && os.SameFile(d.info, o.info)
}

func (d directory) create(ctx context.Context, progress func(done, total int)) error {
	return dir.Create(ctx, d.path, datastore.CreateOptions{Progress: progress})
}

func (d directory) open(context.Context) (Store, error) {
	st, err := dir.Open(d.path, dir.Options{Sync: d.sync})
	if err != nil { // not a typed nil
		return nil, err
	}
	return st, nil
}

// place is that of a configuration.
func (s *Set) place(c Config) (place, error) {
	b, err := c.Backend()
	if err != nil {
		return nil, err
	}
	if b.Type == S3 {
		client, err := buckets.Find(s.conf, b.Client)
		if err != nil {
			return nil, err
		}
		return inBucket{c, b, client}, nil
	}
	d := directory{}
	if d.path, err = c.location(); err != nil {
		return nil, err
	}
	if d.sync, err = c.syncLevel(); err != nil {
		return nil, err
	}
	// Looked at before it is opened: if it is replaced in between, the next one sees
	// that it is another.
	if d.info, err = os.Stat(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return d, nil
}

// shared is one store with its users.
type shared struct {
	at   place
	once sync.Once

	store Store // after once
	err   error
	ready atomic.Bool // store is there

	// Under the lock of the set.
	readers, writers int
	old              bool // to be closed when nobody uses it any more
}

func newShared(at place) *shared { return &shared{at: at} }

// openTime is how long opening may take; what is tried again in vain takes a minute.
const openTime = 3 * time.Minute

// get opens the store if nobody has. All who wait for that get the same answer.
func (sh *shared) get() (Store, error) {
	sh.once.Do(func() {
		ctx, cancel := context.WithTimeoutCause(context.Background(), openTime, fmt.Errorf("it does not answer within %v", openTime))
		defer cancel()
		sh.store, sh.err = sh.at.open(ctx)
		sh.ready.Store(sh.err == nil)
	})
	return sh.store, sh.err
}

func (sh *shared) closeIfUnused() error {
	if !sh.old || sh.readers+sh.writers > 0 || sh.store == nil {
		return nil
	}
	return sh.store.Close()
}
