package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// open opens the repository.
func (a *app) open(ctx context.Context) (repo.Repository, error) {
	where, err := a.location()
	if err != nil {
		return nil, err
	}
	return a.openLocation(ctx, where, nearEnd)
}

func (a *app) openLocation(ctx context.Context, where location, from end) (repo.Repository, error) {
	if name := where.server.Store; where.bare && isRepository(name) {
		return nil, usagef("%q names a datastore on a server, and here is a repository in a directory of that name: write ./%s for this, localhost:%s for that", name, name, name)
	}
	if where.bucket != nil {
		return a.openBucket(ctx, *where.bucket, from)
	}
	if where.dir == "" {
		return a.openServer(where.server, from)
	}
	r, err := a.Open(where.dir, a.sync)
	if errors.Is(err, repo.ErrNotFound) {
		if _, serr := os.Stat(where.dir); errors.Is(serr, os.ErrNotExist) {
			return nil, hint(err, "check the path; 'holdfast init %s' creates a repository there", where)
		}
		return nil, hint(err, "a repository is a directory with .chunks in it; 'holdfast init' makes an empty directory one")
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// isRepository reports whether a path looks like a repository.
func isRepository(path string) bool {
	info, err := os.Stat(filepath.Join(path, names.ChunkDir))
	return err == nil && info.IsDir()
}

// with opens the repository for one job.
func (a *app) with(ctx context.Context, job func(repo.Repository) error) (err error) {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := r.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close repository: %w", cerr)
		}
	}()
	return job(r)
}
