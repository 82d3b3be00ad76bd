//go:build linux

// Command tape measures what is known of tapes, and writes its part of
// docs/benchmarks.md.
//
// # Catalogs
//
// A media set of two tapes with a million chunks in 500 chunk archives, and 500
// snapshots. Each job is a process of its own, this program started anew, which
// opens the state directory; files are in the page cache.
//
//	chunk      load the catalogs of the set, find one chunk
//	snapshot   load the catalogs of the set, find one snapshot
//	list       list the snapshots of one tape, whose list is not kept yet
//	kept       the same once more
//
// # Feeding
//
// A repository with one image of 2 GiB that does not compress, in chunks of 4
// MiB, is backed up to a drive that takes everything at once: labels, chunk archive,
// snapshot archive, catalog. What is known of media lies in memory, in /dev/shm, for
// it is not fed. Beside it a process reads the chunk files, as many at a time, and does
// nothing with them. Both in turn, once with the chunks in the page
// cache, once without.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

type options struct {
	program.Options
	job, state string // of a process that is measured
}

func main() {
	o := options{Options: program.Defaults(5)}
	o.Holdfast = "" // this program is measured
	o.Flags("for the state", "rounds")
	flag.StringVar(&o.job, "job", "", "the one job to do, in the state directory -state")
	flag.StringVar(&o.state, "state", "", "see -job")
	o.Main("tape", func(ctx context.Context) error {
		if o.job != "" {
			return work(ctx, o.state, o.job)
		}
		return run(ctx, o)
	})
}

func run(ctx context.Context, o options) (err error) {
	dir, err := o.TempDir("tape")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	about := measure.Describe(ctx, dir)
	state := filepath.Join(dir, "state")
	// The kernel counts what a process took before it was started for another
	// program, so this one stays small.
	if _, err := alone(ctx, "fill", state); err != nil {
		return err
	}
	used, err := o.measure(ctx, state)
	if err != nil {
		return err
	}
	store := filepath.Join(dir, "store")
	if _, err := alone(ctx, "store", store); err != nil {
		return err
	}
	var body strings.Builder
	write(&body, about, used)
	fmt.Fprintf(&body, "\n| chunks of a repository, to a drive that never waits | plain read, MiB/s | backup, MiB/s | goal | ratio | peak RSS, MiB | |\n|---|---|---|---|---|---|---|\n")
	for _, cold := range []bool{false, true} {
		used, err := o.feeding(ctx, store, cold)
		if err != nil {
			return err
		}
		writeFeeding(&body, cold, used)
	}
	return o.Publish(page.Part{Name: "tape", Make: "bench-tape"}, body.String())
}

// measure does every job in every round, each in a process.
func (o options) measure(ctx context.Context, state string) (map[string][]measure.Cost, error) {
	used := map[string][]measure.Cost{}
	for range o.Rounds {
		if err := forgetLists(state); err != nil {
			return nil, err
		}
		for _, job := range jobs {
			cost, err := alone(ctx, job, state)
			if err != nil {
				return nil, err
			}
			used[job] = append(used[job], cost)
		}
	}
	return used, nil
}

// alone does a job in a process of its own.
func alone(ctx context.Context, job, state string) (measure.Cost, error) {
	self, err := os.Executable()
	if err != nil {
		return measure.Cost{}, err
	}
	_, cost, err := measure.Command{Args: []string{self, "-job", job, "-state", state}}.Run(ctx)
	return cost, err
}

func write(b *strings.Builder, about measure.Machine, used map[string][]measure.Cost) {
	fmt.Fprintf(b, "%s\n\n", about)
	fmt.Fprintf(b, "| what | goal | seconds | peak RSS, MiB | |\n|---|---|---|---|---|\n")
	for _, job := range jobs {
		var seconds []float64
		var rss int64
		for _, c := range used[job] {
			seconds = append(seconds, c.Seconds)
			rss = max(rss, c.RSS)
		}
		median, met := measure.Median(seconds), "met"
		if median >= 1 || rss > 200<<20 {
			met = "missed"
		}
		fmt.Fprintf(b, "| %s | < 1 s, ≤ 200 MiB | %.3f | %d | %s |\n", says[job], median, rss>>20, met)
	}
}
