//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/filerestore"
	"github.com/holdfast-backup/holdfast/internal/filerestore/direct"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

// again lists the directory, and then others and it once more, in this process.
func (s *site) again(ctx context.Context, r results) (err error) {
	repository, err := dir.Open(s.path("repo"), dir.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, repository.Close()) }()
	list, err := repository.Snapshots(ctx, names.Root, nil)
	if err != nil || len(list) != 1 {
		return fmt.Errorf("%d snapshots, not one: %w", len(list), err)
	}
	snap, err := repository.Open(ctx, list[0].Snapshot)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	cache := archive.NewCache(128 << 20)
	defer cache.Close()
	img, err := archive.Open(ctx, snap, names.Archive(disk+".fidx"), nil, archive.Options{Cache: cache})
	if err != nil {
		return err
	}
	defer img.Close()
	d := direct.New([]direct.Disk{{Archive: disk, Image: img}}, direct.Options{})
	for _, step := range []struct{ name, path string }{
		{"list, open image", oneDir}, {"list, another directory", strings.Replace(oneDir, "500", "900", 1)}, {"list, same process", oneDir},
	} {
		p, err := filerestore.ParsePath(step.path)
		if err != nil {
			return err
		}
		begin := time.Now()
		all, err := d.List(ctx, p)
		if err == nil && len(all) != filesEach {
			err = fmt.Errorf("%s has %d entries", step.path, len(all))
		}
		if err != nil {
			return err
		}
		r.note(step.name, time.Since(begin).Seconds(), 0)
	}
	return nil
}
