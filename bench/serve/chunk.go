//go:build linux

package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/repo/fetch"
)

// chunkCost is how long it takes to read, decode and hash one chunk of the
// small image, in milliseconds: the least that a cold read can cost.
func (s *site) chunkCost(ctx context.Context) (ms float64, err error) {
	r, err := dir.Open(s.repo(), dir.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	list, err := r.Snapshots(ctx, names.Root, nil)
	if err != nil || len(list) != 1 {
		return 0, errors.Join(err, errors.New("want one snapshot"))
	}
	snap, err := r.Open(ctx, list[0].Snapshot)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	return readChunks(ctx, snap)
}

func readChunks(ctx context.Context, snap repo.Snapshot) (ms float64, err error) {
	x, err := fetch.Open(snap, "noise.img.fidx", nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	reader, err := fetch.NewReader(snap, x)
	if err != nil {
		return 0, err
	}
	defer reader.Close()
	buf := make([]byte, int(x.ChunkSize)+fetch.Slack)
	const reads = 400
	begin := time.Now()
	for range reads {
		i := rand.IntN(x.Count())
		d, err := x.Digest(i)
		if err != nil {
			return 0, err
		}
		if err := reader.Read(ctx, d, buf[:x.Length(i)]); err != nil {
			return 0, err
		}
	}
	return time.Since(begin).Seconds() * 1000 / reads, nil
}
