//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// extras measures what only Holdfast is asked for: memory on a huge sparse
// image, and the listing of many snapshots.
func (b *bench) extras(ctx context.Context) error {
	t := b.tools[0] // holdfast, which is always there
	if t.name != "holdfast" {
		return errors.New("holdfast does not run: see above")
	}
	if b.sparseData > 0 {
		if err := b.sparse(ctx, t); err != nil {
			return fmt.Errorf("sparse image: %w", err)
		}
	}
	if b.snapshots > 0 {
		if err := b.listing(ctx, t); err != nil {
			return fmt.Errorf("listing: %w", err)
		}
	}
	return nil
}

const sparseSize = 1 << 40

// makeSparse makes an image of 1 TiB with data bytes in it: pieces of 4 MiB
// with text, database pages and noise at scattered places.
func makeSparse(name string, data int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(sparseSize); err != nil {
		return err
	}
	kinds := []io.Reader{logLines(21), databasePages(22), noise(23), logLines(24)}
	r := rand.New(rand.NewPCG(20, 0))
	const piece = 4 * mib
	for i := range data / piece {
		at := r.Int64N((sparseSize-piece)/blockSize) * blockSize
		if _, err := io.Copy(io.NewOffsetWriter(f, at), io.LimitReader(kinds[i%4], piece)); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (b *bench) sparse(ctx context.Context, t *tool) error {
	if err := generateApart(ctx, b.options, "sparse"); err != nil {
		return err
	}
	image := b.file(sparseFile)
	s := &site{program: t.program, dir: b.file("site")}
	defer func() { _ = errors.Join(os.RemoveAll(s.dir), os.Remove(image)) }()
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o755), s.present(image, 0)); err != nil {
		return err
	}
	for _, c := range t.setup(s) {
		if _, _, err := c.Run(ctx); err != nil {
			return err
		}
	}
	b.res.Data = b.sparseData * mib
	for _, j := range []struct {
		name string
		c    measure.Command
	}{{jobFirst, t.backup(s)}, {jobRestore, t.restore(s)}, {jobVerify, t.verify(s)}} {
		_, used, err := j.c.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		b.res.Sparse = append(b.res.Sparse, sample{"hot", 0, t.name, j.name, used})
		fmt.Printf("1 TiB sparse  %-32s %7.2f s  rss %4d MiB\n", j.name, used.Seconds, used.RSS/mib)
	}
	return same(image, s.out())
}

// listing lists a repository of many snapshots with cold and hot caches.
func (b *bench) listing(ctx context.Context, t *tool) error {
	s := &site{program: t.program, dir: b.file("site")}
	defer func() { _ = os.RemoveAll(s.dir) }()
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o755)); err != nil {
		return err
	}
	for _, c := range t.setup(s) {
		if _, _, err := c.Run(ctx); err != nil {
			return err
		}
	}
	if err := fillSnapshots(s.repo(), b.snapshots); err != nil {
		return err
	}
	list := s.command(nil, "snapshot", "list", "--repository", s.repo(), "--output-format", "json")
	for _, cache := range []string{"cold", "hot"} {
		if cache == "cold" && os.Geteuid() != 0 {
			continue
		}
		for n := range max(b.Rounds, 1) {
			if cache == "cold" {
				if err := measure.DropCaches(); err != nil {
					return err
				}
			}
			syscall.Sync()
			out, used, err := list.Run(ctx)
			if err != nil {
				return err
			}
			var got []json.RawMessage
			if err := json.NewDecoder(bytes.NewReader(out)).Decode(&got); err != nil || len(got) != b.snapshots {
				return fmt.Errorf("%d snapshots listed, want %d: %w", len(got), b.snapshots, errors.Join(err))
			}
			b.res.Listing = append(b.res.Listing, sample{cache, n, t.name, "list", used})
			fmt.Printf("%-4s %d  list %d snapshots %28.2f s  rss %4d MiB\n", cache, n+1, len(got), used.Seconds, used.RSS/mib)
		}
	}
	b.res.Listed = b.snapshots
	return nil
}
