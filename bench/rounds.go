//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// The jobs, in the order of the page.
const (
	jobInit        = "create a repository"
	jobFirst       = "first backup"
	jobSecond      = "second backup, full scan"
	jobChanged     = "second backup, changed map"
	jobRestore     = "restore to a new file"
	jobInPlace     = "restore in place, target hashed"
	jobInPlaceBase = "restore in place, base known"
	jobVerify      = "verify"
)

var jobs = []string{jobInit, jobFirst, jobSecond, jobChanged, jobRestore, jobInPlace, jobInPlaceBase, jobVerify}

// bench is one run of the whole program.
type bench struct {
	options
	res   *results
	tools []*tool
}

func (b *bench) file(name string) string { return filepath.Join(b.Work, name) }

func (b *bench) all(ctx context.Context) error {
	for _, t := range b.tools {
		b.res.Tools = append(b.res.Tools, toolFacts{t.name, t.version, t.about, t.dedup})
		fmt.Printf("%-10s %s\n", t.name, t.version)
	}
	cold := b.cold
	if cold > 0 && os.Geteuid() != 0 {
		fmt.Println("left out: rounds with a cold cache need root")
		cold = 0
	}
	if err := b.extras(ctx); err != nil {
		return err
	}
	if err := b.res.save(); err != nil {
		return err
	}
	for n := range b.Rounds + cold {
		cache := "hot"
		if n >= b.Rounds {
			cache = "cold"
		}
		for i := range b.tools { // another first one each round
			t := b.tools[(i+n)%len(b.tools)]
			if t.rounds > 0 && n >= t.rounds {
				continue
			}
			if err := b.round(ctx, t, n, cache); err != nil {
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
func (b *bench) round(ctx context.Context, t *tool, n int, cache string) error {
	s := &site{program: t.program, dir: b.file("site")}
	r := &session{bench: b, tool: t, site: s, round: n, cache: cache}
	err := errors.Join(r.all(ctx), os.RemoveAll(s.dir))
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
	cache string
}

func (r *session) all(ctx context.Context) error {
	t, s := r.tool, r.site
	if err := r.newSite(ctx, true); err != nil {
		return err
	}
	if err := r.backup(ctx, jobFirst, 0); err != nil {
		return err
	}
	if t.full {
		if err := errors.Join(s.present(r.file(day1File), 1), os.RemoveAll(s.repo())); err != nil {
			return err
		}
		if _, _, err := t.backup(s).Run(ctx); err != nil {
			return err
		}
	} else if err := r.backup(ctx, jobSecond, 1); err != nil {
		return err
	}
	if t.prepare != nil {
		if err := t.prepare(ctx, s); err != nil {
			return err
		}
	}
	for _, j := range []struct {
		name string
		job  func(*site) measure.Command
		over string // image that the target holds before
	}{
		{jobRestore, t.restore, ""},
		{jobInPlace, t.inPlace, r.file(day0File)},
		{jobInPlaceBase, t.inPlaceBase, r.file(day0File)},
	} {
		if j.job == nil {
			continue
		}
		if err := r.restore(ctx, j.name, j.job, j.over); err != nil {
			return err
		}
	}
	if t.verify != nil {
		if err := r.timed(ctx, jobVerify, t.verify(s)); err != nil {
			return err
		}
	}
	if t.changed != nil {
		return r.withChangedMap(ctx)
	}
	return nil
}

// newSite makes the tool's directory and empty repository anew.
func (r *session) newSite(ctx context.Context, timed bool) error {
	s := r.site
	if err := errors.Join(os.RemoveAll(s.dir), os.MkdirAll(s.dir, 0o755), s.present(r.file(day0File), 0)); err != nil {
		return err
	}
	if r.tool.setup == nil {
		return nil
	}
	steps := r.tool.setup(s)
	for i, c := range steps {
		if timed && len(steps) == 1 {
			return r.timed(ctx, jobInit, c)
		}
		if _, _, err := c.Run(ctx); err != nil {
			return fmt.Errorf("setup, step %d: %w", i+1, err)
		}
	}
	return nil
}

// backup times the backup of a day's image and weighs the repository after.
func (r *session) backup(ctx context.Context, job string, day int) error {
	if err := r.site.present(r.file([]string{day0File, day1File}[day]), day); err != nil {
		return err
	}
	if err := r.timed(ctx, job, r.tool.backup(r.site)); err != nil {
		return err
	}
	return r.weigh(job)
}

func (r *session) weigh(job string) error {
	bytes, disk, err := weigh(r.site.repo())
	r.res.Sizes = append(r.res.Sizes, size{r.tool.name, job, bytes, disk})
	return err
}

// restore times a restore over a target that holds the given image (or none)
// and compares what came back.
func (r *session) restore(ctx context.Context, name string, job func(*site) measure.Command, over string) error {
	s := r.site
	target := r.tool.restored(s)
	if err := os.RemoveAll(s.out()); err != nil {
		return err
	}
	if target != s.out() {
		if err := os.MkdirAll(s.out(), 0o755); err != nil {
			return err
		}
	}
	if over != "" {
		if err := helper(ctx, "cp", "--sparse=always", over, target); err != nil {
			return err
		}
	}
	if err := r.timed(ctx, name, job(s)); err != nil {
		return err
	}
	if err := same(s.source, target); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.RemoveAll(s.out())
}

// withChangedMap makes the second backup once more, in a repository of its own
// that knows only the first day, with the map of what changed since.
func (r *session) withChangedMap(ctx context.Context) error {
	s := r.site
	if err := r.newSite(ctx, false); err != nil {
		return err
	}
	if _, _, err := r.tool.backup(s).Run(ctx); err != nil {
		return err
	}
	raw, err := os.ReadFile(r.file(mapFile))
	if err != nil {
		return err
	}
	var m changedMap
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%s: %w", mapFile, err)
	}
	m.Base = snapshotPath(firstBackup)
	s.changes = s.path(mapFile)
	if err := errors.Join(m.write(s.changes), s.present(r.file(day1File), 1)); err != nil {
		return err
	}
	if err := r.timed(ctx, jobChanged, r.tool.changed(s)); err != nil {
		return err
	}
	if err := r.weigh(jobChanged); err != nil {
		return err
	}
	if _, _, err := r.tool.restore(s).Run(ctx); err != nil {
		return err
	}
	return same(s.source, r.tool.restored(s))
}

// timed brings the machine into the state that the round asks for, runs the
// command and records what it took.
func (r *session) timed(ctx context.Context, job string, c measure.Command) error {
	syscall.Sync()
	var err error
	if r.cache == "cold" {
		err = measure.DropCaches()
	} else {
		err = warm(r.site.source)
	}
	if err != nil {
		return err
	}
	_, used, err := c.Run(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", job, err)
	}
	r.res.Samples = append(r.res.Samples, sample{r.cache, r.round, r.tool.name, job, used})
	fmt.Printf("%-4s %d  %-10s %-32s %7.2f s  cpu %6.2f s  rss %4d MiB\n",
		r.cache, r.round+1, r.tool.name, job, used.Seconds, used.CPU, used.RSS/mib)
	return nil
}
