//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// The jobs, in the order of the table.
const (
	jobFirst        = "first backup"
	jobSecond       = "second backup, nothing changed"
	jobSecondData   = "the same in data mode"
	jobFirstLegacy  = "first backup in legacy mode"
	jobSecondLegacy = "second backup in legacy mode"
	jobChanged      = "backup after small changes"
	jobRestore      = "restore to a new directory"
	jobList         = "mount: ls -lR"
	jobListAgain    = "mount: ls -lR once more"
	jobFind         = "mount: find -type f"
	jobCat          = "mount: 1 GiB from 16 MiB on"
	jobCatAgain     = "mount: the same once more"
	jobMount        = "mount" // memory of the process behind it
)

var jobs = []string{
	jobFirst, jobSecond, jobSecondData, jobFirstLegacy, jobSecondLegacy, jobChanged, jobRestore,
	jobList, jobListAgain, jobFind, jobCat, jobCatAgain, jobMount,
}

const mib = 1 << 20

type bench struct {
	options
	res *results
}

func (b *bench) file(rel ...string) string {
	return filepath.Join(append([]string{b.Work}, rel...)...)
}

func (b *bench) all(ctx context.Context) error {
	if err := b.stage(ctx); err != nil {
		return err
	}
	tools := b.findTools(ctx)
	for _, t := range tools {
		b.res.Tools = append(b.res.Tools, toolFacts{t.name, t.version, t.about, t.peer})
	}
	for n := range b.Rounds {
		for i := range tools {
			t := tools[(i+n)%len(tools)]
			if t.rounds > 0 && n >= t.rounds {
				continue
			}
			if err := b.round(ctx, t, n); err != nil {
				return err
			}
		}
		if err := b.res.save(); err != nil {
			return err
		}
	}
	return nil
}

// round runs all jobs of one tool. What fails in a peer is recorded and ends
// only that peer's round; what fails in Holdfast ends the run.
func (b *bench) round(ctx context.Context, t *tool, n int) error {
	s := &site{program: t.program, base: b.Work, dir: b.file("site"), what: "src"}
	r := &session{bench: b, tool: t, site: s, round: n}
	err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o755))
	if err == nil {
		err = errors.Join(r.jobs(ctx), os.RemoveAll(s.dir))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%s, round %d: %w", t.name, n+1, err)
		b.res.Errors = append(b.res.Errors, err.Error())
		fmt.Println(err)
		if t.name == "holdfast" {
			return err
		}
	}
	return nil
}

// session is one tool in one round.
type session struct {
	*bench
	tool  *tool
	site  *site
	round int
}

func (r *session) jobs(ctx context.Context) error {
	if r.tool.setup != nil {
		for _, c := range r.tool.setup(r.site) {
			if _, _, err := c.Run(ctx); err != nil {
				return err
			}
		}
	}
	if r.tool.backup != nil {
		if err := errors.Join(r.backups(ctx), r.restore(ctx)); err != nil {
			return err
		}
	}
	if r.tool.mount == nil {
		return nil
	}
	if err := r.mounted(ctx, func(at string) error {
		for _, j := range []struct{ job, script string }{
			{jobList, `ls -lR "$1"`}, {jobListAgain, `ls -lR "$1"`}, {jobFind, `find "$1" -type f`},
		} {
			c := measure.Command{Args: []string{"sh", "-c", j.script + " | tail -n 1", "sh", at + "/"}}
			if err := r.timed(ctx, j.job, c); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return r.cats(ctx)
}

func (r *session) backups(ctx context.Context) error {
	t, s := r.tool, r.site
	if err := r.timed(ctx, jobFirst, t.backup(s, "")); err != nil || t.full {
		return err
	}
	r.res.weigh(t.name, s.repo())
	if err := r.timed(ctx, jobSecond, t.backup(s, "")); err != nil {
		return err
	}
	if t.name == "holdfast" {
		if _, _, err := t.backup(s, "data").Run(ctx); err != nil {
			return err
		}
		for _, j := range []struct{ job, mode string }{{jobSecondData, "data"}, {jobFirstLegacy, "legacy"}, {jobSecondLegacy, "legacy"}} {
			if err := r.timed(ctx, j.job, t.backup(s, j.mode)); err != nil {
				return err
			}
		}
	}
	c, err := r.change()
	if err == nil {
		err = r.timed(ctx, jobChanged, t.backup(s, ""))
	}
	if c != nil {
		err = errors.Join(err, c.undo())
	}
	if err != nil {
		return err
	}
	_, _, err = t.backup(s, "").Run(ctx) // what is restored and mounted is the unchanged tree
	return err
}

func (r *session) restore(ctx context.Context) error {
	t, s := r.tool, r.site
	if t.prepare != nil {
		if err := t.prepare(ctx, s); err != nil {
			return err
		}
	}
	if t.name != "holdfast" {
		if err := os.MkdirAll(s.out(), 0o755); err != nil {
			return err
		}
	}
	if err := r.timed(ctx, jobRestore, t.restore(s)); err != nil {
		return err
	}
	if t.name == "holdfast" && r.round == 0 {
		if out, _, err := (measure.Command{Args: []string{"python3", "test/check/treecmp.py", r.file("src"), s.out()}}).Run(ctx); err != nil {
			return fmt.Errorf("what was restored differs: %w\n%s", err, out[:min(len(out), 2000)])
		}
	}
	entries := 0
	err := filepath.WalkDir(s.out(), func(_ string, _ fs.DirEntry, err error) error {
		entries++
		return err
	})
	if err != nil || entries < r.res.Entries {
		return errors.Join(err, fmt.Errorf("%d entries came back of %d", entries, r.res.Entries))
	}
	return os.RemoveAll(s.out())
}

// mounted runs something while what was backed up is mounted.
func (r *session) mounted(ctx context.Context, f func(at string) error) error {
	t, s := r.tool, r.site
	if t.prepare != nil {
		if err := t.prepare(ctx, s); err != nil {
			return err
		}
	}
	m, err := startMount(ctx, t.mount(s), s.mnt())
	if err != nil {
		return err
	}
	err = f(t.mounted(s))
	rss, serr := m.stop()
	r.add(jobMount, measure.Cost{RSS: rss})
	return errors.Join(err, serr)
}

// cats backs up the big file and reads it from a mount, twice.
func (r *session) cats(ctx context.Context) error {
	r.site.what = "big"
	if r.tool.backup != nil {
		if _, _, err := r.tool.backup(r.site, "").Run(ctx); err != nil {
			return err
		}
	}
	return r.mounted(ctx, func(at string) error {
		for _, job := range []string{jobCat, jobCatAgain} {
			seconds, err := cat(filepath.Join(at, "big.bin"))
			if err != nil {
				return err
			}
			r.add(job, measure.Cost{Seconds: seconds})
		}
		return nil
	})
}

// timed runs the command with the source in the page cache and records what it
// took.
func (r *session) timed(ctx context.Context, job string, c measure.Command) error {
	if !strings.HasPrefix(job, "mount") {
		syscall.Sync()
		if err := warm(r.site.source()); err != nil {
			return err
		}
	}
	_, used, err := c.Run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", job, err)
	}
	r.add(job, used)
	return nil
}

func (r *session) add(job string, used measure.Cost) {
	r.res.Samples = append(r.res.Samples, sample{r.round, r.tool.name, job, used})
	fmt.Printf("%d  %-10s %-32s %7.2f s  cpu %6.2f s  rss %4d MiB\n", r.round+1, r.tool.name, job, used.Seconds, used.CPU, used.RSS/mib)
}
