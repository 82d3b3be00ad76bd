//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// The jobs, in the order of the page.
const (
	jobFirst   = "first backup"
	jobSecond  = "second backup, full scan"
	jobRestore = "restore to a new file"
	jobDistant = "restore to a new file, at a distance"
	jobList    = "list of a directory, new process, at a distance"
)

var jobs = []string{jobFirst, jobSecond, jobRestore, jobDistant, jobList}

// sample is one job of one tool in one round.
type sample struct {
	tool, job string
	measure.Cost
	traffic
	engine float64 // seconds of processor time of the engine
}

// session is one tool in one round.
type session struct {
	*bench
	*site
	tool  *tool
	round int
}

// round runs all jobs of one tool on an engine of its own.
func (b *bench) round(ctx context.Context, t *tool, n int) (err error) {
	s := &site{program: t.program, dir: b.file("site")}
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.path("buckets", bucket), 0o755)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if s.engine, err = startEngine(ctx, b.gateway, s.path("buckets")); err != nil {
		return err
	}
	defer s.engine.stop()
	if s.proxy, err = newProxy(s.engine.addr); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.proxy.close()) }()
	if err := (&session{b, s, t, n}).all(ctx); err != nil {
		return fmt.Errorf("%s, round %d: %w", t.name, n+1, err)
	}
	return nil
}

func (r *session) all(ctx context.Context) error {
	if err := r.present(0); err != nil {
		return err
	}
	for _, c := range r.tool.setup(r.site) {
		if _, _, err := c.Run(ctx); err != nil {
			return err
		}
	}
	if err := r.timed(ctx, jobFirst, r.tool.backup(r.site)); err != nil {
		return err
	}
	if err := r.present(1); err != nil {
		return err
	}
	if err := r.timed(ctx, jobSecond, r.tool.backup(r.site)); err != nil {
		return err
	}
	if r.tool.prepare != nil {
		if err := r.tool.prepare(ctx, r.site); err != nil {
			return err
		}
	}
	if err := r.restore(ctx, jobRestore); err != nil {
		return err
	}
	if r.latency == 0 {
		return nil
	}
	r.proxy.far.Store(int64(r.latency))
	return r.distant(ctx)
}

// present puts a day's image where the tools look for it, under one name for both
// days, as a disk has it.
func (r *session) present(day int) error {
	r.day = day
	if err := os.MkdirAll(r.path("src"), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(r.image()); err != nil {
		return err
	}
	return os.Link(r.imageOf(day), r.image())
}

// restore restores the second day, and compares it.
func (r *session) restore(ctx context.Context, job string) error {
	target := r.tool.restored(r.site)
	if err := os.RemoveAll(r.out()); err != nil {
		return err
	}
	if target != r.out() {
		if err := os.MkdirAll(r.out(), 0o755); err != nil {
			return err
		}
	}
	if err := r.timed(ctx, job, r.tool.restore(r.site)); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cmp", target, r.imageOf(1)).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", job, err, out)
	}
	return os.RemoveAll(r.out())
}

// timed runs a job with nothing to be written back and the source in the page cache.
func (r *session) timed(ctx context.Context, job string, c measure.Command) error {
	syscall.Sync()
	if err := warm(r.image()); err != nil {
		return err
	}
	before, err := r.engine.Processor()
	if err != nil {
		return err
	}
	r.proxy.reset()
	_, used, err := c.Run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", job, err)
	}
	s := sample{r.tool.name, job, used, r.proxy.passed(), 0}
	after, err := r.engine.Processor()
	s.engine = after - before
	r.note(s)
	return err
}

func (b *bench) note(s sample) {
	b.samples = append(b.samples, s)
	fmt.Printf("%-10s %-48s %7.2f s  cpu %6.2f s  engine %6.2f s  rss %4d MiB  up %5d MiB  down %5d MiB  %v\n",
		s.tool, s.job, s.Seconds, s.CPU, s.engine, s.RSS>>20, s.Up>>20, s.Down>>20, s.Requests)
}

// warm reads a file.
func warm(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, f)
	return errors.Join(err, f.Close())
}
