//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

const (
	perDirectory = 1000
	dirsInDir    = 50
	withContent  = 50 // one of so many files
	makeLimit    = 20 * time.Minute
)

// many backs up and restores a tree of o.many files, and notes the cost.
func many(ctx context.Context, o options, res *results) (err error) {
	res.Files = o.many
	dir := filepath.Join(o.Work, "many")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	src, out := filepath.Join(dir, "src"), filepath.Join(dir, "out")
	for _, at := range []string{src, out} {
		unmount, err := imageAt(ctx, at, o.many)
		if err != nil {
			return err
		}
		defer unmount()
	}
	begin := time.Now()
	if err := fill(ctx, filepath.Join(src, "tree"), o.many); err != nil {
		return err
	}
	fmt.Printf("%d files made in %.0f s\n", o.many, time.Since(begin).Seconds())
	repo := filepath.Join(dir, "repo")
	hold := func(args ...string) measure.Command {
		return measure.Command{Args: append([]string{o.Holdfast}, append(args, "--repository", repo)...), Dir: dir}
	}
	if _, _, err := (measure.Command{Args: []string{o.Holdfast, "init", "--lazy", repo}}).Run(ctx); err != nil {
		return err
	}
	timed := func(job string, c measure.Command) error {
		syscall.Sync()
		_, used, err := c.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", job, err)
		}
		res.Many = append(res.Many, sample{0, "holdfast", job, used})
		fmt.Printf("many  %-32s %7.2f s  cpu %6.2f s  rss %4d MiB\n", job, used.Seconds, used.CPU, used.RSS/mib)
		return nil
	}
	for i, j := range []struct{ job, mode string }{
		{"backup, metadata mode, first", "metadata"},
		{"backup, metadata mode, nothing changed", "metadata"},
		{"backup, data mode", "data"},
		{"backup, legacy mode", "legacy"},
	} {
		c := hold("backup", "root.pxar:"+filepath.Join(src, "tree"), "--backup-type", "host", "--backup-id", j.mode,
			"--backup-time", fmt.Sprint(1_700_000_000+i), "--change-detection-mode", j.mode)
		if err := timed(j.job, c); err != nil {
			return err
		}
	}
	for _, j := range []struct{ job, mode string }{{"restore of the split archive", "metadata"}, {"restore of the legacy archive", "legacy"}} {
		to := filepath.Join(out, "tree")
		if err := timed(j.job, hold("restore", "host/"+j.mode+"/latest", "root.pxar", to)); err != nil {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	s := &site{program: o.Holdfast, dir: dir, what: "metadata"}
	m, err := startMount(ctx, holdfast(o.Holdfast).mount(s), s.mnt())
	if err != nil {
		return err
	}
	err = timed("ls -lR of the mount", measure.Command{Args: []string{"sh", "-c", `ls -lR "$1" | tail -n 1`, "sh", s.mnt()}})
	rss, serr := m.stop()
	res.Many = append(res.Many, sample{0, "holdfast", "the mount meanwhile", measure.Cost{RSS: rss}})
	return errors.Join(err, serr)
}

// imageAt mounts a new ext4 file system with room for n small files.
func imageAt(ctx context.Context, at string, n int) (unmount func(), err error) {
	image := at + ".img"
	size := int64(n)*(256+64+4096/withContent) + 4<<30
	if err := errors.Join(os.Mkdir(at, 0o755), os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		return nil, err
	}
	if err := run1(ctx, "mkfs.ext4", "-q", "-F", "-N", fmt.Sprint(n+n/10+1000), "-O", "^has_journal", image); err != nil {
		return nil, err
	}
	if err := run1(ctx, "mount", "-o", "loop,noatime", image, at); err != nil {
		return nil, err
	}
	return func() { _ = unix.Unmount(at, unix.MNT_DETACH) }, nil
}

// fill makes n files below a new directory.
func fill(ctx context.Context, root string, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, makeLimit, fmt.Errorf("the tree was not made in %v", makeLimit))
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for d := range (n + perDirectory - 1) / perDirectory {
		g.Go(func() error {
			dir := filepath.Join(root, fmt.Sprintf("directory-%03d", d/dirsInDir), fmt.Sprintf("part-%05d", d))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for i := range min(perDirectory, n-d*perDirectory) {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				var content []byte
				if i%withContent == 0 {
					content = fmt.Appendf(nil, "%20d", d*perDirectory+i)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d.txt", i*7919)), content, 0o644); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
