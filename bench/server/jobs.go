//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// The jobs beside a directory, and the archive of each kind of source.
const (
	jobFirst   = "first backup"
	jobSecond  = "unchanged backup"
	jobRestore = "restore"
)

// source is what is backed up.
type source struct{ name, archive, path string }

func (s *site) sources() []source {
	return []source{{"image", "disk.img", s.image}, {"directory", "root.pxar", s.tree}}
}

// beside runs the jobs on a directory and through the server.
func beside(ctx context.Context, s *site, res *results) (err error) {
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	for _, from := range s.sources() {
		if err := warm(ctx, from.path); err != nil {
			return err
		}
		for n := range s.Rounds {
			if err := s.round(ctx, p, from, n, res); err != nil {
				return err
			}
		}
	}
	return nil
}

// round is one round with one source.
func (s *site) round(ctx context.Context, p *process, from source, n int, res *results) error {
	store := fmt.Sprintf("%s-%d", from.name, n)
	if err := s.store(ctx, store); err != nil {
		return err
	}
	ways := []struct {
		name string
		on   func(args ...string) measure.Command
	}{
		{"directory", func(args ...string) measure.Command { return s.local(s.path("repo"), args...) }},
		{"server", func(args ...string) measure.Command { return s.remote(p.addr, store, args...) }},
	}
	if _, _, err := s.lazily(s.path("repo")).Run(ctx); err != nil {
		return err
	}
	if n%2 == 1 {
		ways[0], ways[1] = ways[1], ways[0]
	}
	empty, err := size(s.path(store))
	if err != nil {
		return err
	}
	for _, job := range []string{jobFirst, jobSecond, jobRestore} {
		for _, w := range ways {
			if err := s.timed(ctx, p, from, job, w.name, w.on, res); err != nil {
				return fmt.Errorf("%s of the %s, %s: %w", job, from.name, w.name, err)
			}
		}
		if job == jobFirst {
			full, err := size(s.path(store))
			if err != nil {
				return err
			}
			for _, limited := range []string{jobFirst, jobRestore} {
				used, err := plainTLS(full - empty)
				if err != nil {
					return err
				}
				res.addCost(limited+" of the "+from.name, "tls", used)
			}
		}
	}
	if _, err := s.configured(ctx, "datastore", "remove", store); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(s.path(store)), os.RemoveAll(s.path("repo")))
}

// timed runs one job and notes its wall time, and the processor time of both ends.
func (s *site) timed(ctx context.Context, p *process, from source, job, way string, on func(...string) measure.Command, res *results) error {
	out := s.path("out")
	args := []string{"restore", "host/bench/latest", from.archive, out}
	if job != jobRestore {
		at := map[string]string{jobFirst: "1700000000", jobSecond: "1700003600"}[job]
		args = []string{"backup", from.archive + ":" + from.path, "--backup-type", "host", "--backup-id", "bench", "--backup-time", at}
	}
	syscall.Sync()
	before, err := p.Processor()
	if err != nil {
		return err
	}
	_, used, err := on(args...).Run(ctx)
	if err != nil {
		return err
	}
	after, err := p.Processor()
	if err != nil {
		return err
	}
	if way == "server" {
		used.CPU += after - before
	}
	res.addCost(job+" of the "+from.name, way, used)
	if job != jobRestore {
		return nil
	}
	return errors.Join(same(ctx, from.path, out), os.RemoveAll(out))
}

// warm reads a source, so that it lies in the page cache.
func warm(ctx context.Context, path string) error {
	_, _, err := measure.Command{Args: []string{"sh", "-c", `find "$1" -type f -exec cat {} + >/dev/null`, "sh", path}}.Run(ctx)
	return err
}

// listing lists many snapshots through the server; the first time warms it up.
func listing(ctx context.Context, s *site, res *results) (err error) {
	const store = "many"
	if err := s.store(ctx, store); err != nil {
		return err
	}
	fill := measure.Command{Args: []string{s.bench, "-generate", "snapshots", "-work", s.path(store), "-snapshots", fmt.Sprint(s.snapshots)}}
	if _, _, err := fill.Run(ctx); err != nil {
		return err
	}
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop(), os.RemoveAll(s.path(store))) }()
	for n := range s.Rounds + 1 {
		_, used, err := s.remote(p.addr, store, "snapshot", "list", "--output-format", "json").Run(ctx)
		if err != nil {
			return err
		}
		if n > 0 {
			res.add(jobList, "server", used.Seconds)
		}
	}
	return nil
}

// The long line.
const (
	roundTrip = 150 * time.Millisecond
	lineRate  = 125e6 // bytes a second: 1 Gbit/s
)

// distance backs up noise over a line with delay, and without.
func distance(ctx context.Context, s *site, res *results) (err error) {
	p, err := s.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	l, err := newLine(p.addr, roundTrip, lineRate)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := warm(ctx, s.noiseImage); err != nil {
		return err
	}
	for n := range s.Rounds {
		for _, way := range []struct{ job, name, addr string }{{jobNear, "near", p.addr}, {jobFar, "far", l.addr()}} {
			store := fmt.Sprintf("%s-%d", way.name, n)
			if err := s.store(ctx, store); err != nil {
				return err
			}
			syscall.Sync()
			c := s.remote(way.addr, store, "backup", "noise.img:"+s.noiseImage, "--backup-type", "host", "--backup-id", "bench")
			_, used, err := c.Run(ctx)
			if err != nil {
				return err
			}
			res.add(way.job, "server", used.Seconds)
			if _, err := s.configured(ctx, "datastore", "remove", store); err != nil {
				return err
			}
			if err := os.RemoveAll(s.path(store)); err != nil {
				return err
			}
		}
	}
	return nil
}
