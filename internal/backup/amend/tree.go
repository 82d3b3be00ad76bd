package amend

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// tree carries a file archive over, entry by entry. The base is open, so its
// chunks stay until the new snapshot names them.
func (a *amendment) tree(ctx context.Context, w item) (_ backup.Result, err error) {
	name := w.file.Archive()
	x, err := fetch.OpenDynamic(a.base, name, a.plan.Options.Key)
	if err != nil {
		return backup.Result{}, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	has, done, err := a.known(w)
	if err != nil {
		return backup.Result{}, err
	}
	defer done()
	to, err := a.s.CreateDynamic(name)
	if err != nil {
		return backup.Result{}, err
	}
	var stats backup.Stats
	err = x.Each(func(_ int, start, end int64, d digest.Digest) error {
		there, err := has(d, int(end-start))
		if err == nil && !there {
			if there, err = a.s.Has(ctx, d); err == nil && !there {
				err = fmt.Errorf("chunk %s: %w", d, repo.ErrChunkMissing)
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("at offset %d: %w", start, err)
		}
		stats.Unchanged.Chunks++
		stats.Unchanged.Bytes += end - start
		return to.Add(uint64(end), d)
	})
	if err != nil {
		return backup.Result{}, err
	}
	size, sum, err := to.Close()
	if err != nil {
		return backup.Result{}, err
	}
	if size != w.file.Size || sum != w.file.Csum {
		return backup.Result{}, fmt.Errorf("internal error: the index of the new snapshot is not that of %s", a.base.Name())
	}
	f := manifest.File{Filename: w.file.Filename, CryptMode: w.file.CryptMode, Size: size, Csum: sum}
	return backup.Result{Archive: f, Stats: stats}, nil
}

// known returns what tells the chunks that the session need not look at.
func (a *amendment) known(w item) (has func(d digest.Digest, length int) (bool, error), done func(), err error) {
	prev := a.s.Previous()
	if prev != nil && prev.Name() == a.base.Name() {
		return func(digest.Digest, int) (bool, error) { return true, nil }, func() {}, nil
	}
	opts := a.plan.Options
	opts.CryptMode, opts.Workers = w.file.CryptMode, 1
	writer, err := backup.NewWriter(a.s, opts)
	if err != nil {
		return nil, nil, err
	}
	k, _ := writer.Known(w.file.Archive())
	return k.Has, func() { k.Close(); writer.Close() }, nil
}
