// Command collection measures what garbage collections of a repository in a bucket
// cost, in requests and bytes: the first one, one after which nothing changed, and
// some after few changes. The repository is synthetic and in memory; there is no
// other program to compare with.
//
// Usage (make bench-collection builds and starts it):
//
//	bench/work/collection [-work DIR]
package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/repo/bucket/collect/synthetic"
)

func main() {
	o := options{Options: program.Defaults(1), shape: synthetic.Million}
	o.Flags("for temporary files", "nothing here")
	flag.IntVar(&o.shape.Groups, "groups", o.shape.Groups, "backup groups; each has 10,000 chunks and 100 snapshots")
	o.Main("collection", func(ctx context.Context) error { return run(ctx, o) })
}

type options struct {
	program.Options
	shape synthetic.Shape
}

// run makes a repository and collects again and again.
func run(ctx context.Context, o options) error {
	r, err := synthetic.New(ctx, o.shape)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s Synthetic: %d groups, %d snapshots, %d different chunks, %d of them needed by each snapshot.\n\n",
		measure.Describe(ctx, o.Work), o.shape.Groups, o.shape.Groups*o.shape.Snapshots, o.shape.All(), o.shape.Chunks)
	fmt.Fprint(&b, "| collection | requests | get, put, list, remove, other | MiB down, up | seconds |\n|---|---|---|---|---|\n")
	next := 0
	for _, step := range []struct {
		name       string
		come, gone int
	}{
		{"the first", 0, 0},
		{"nothing changed", 0, 0},
		{"1 snapshot more", 1, 0},
		{"10 snapshots more", 10, 0},
		{"10 snapshots more, 10 forgotten", 10, 10},
		{"100 snapshots more, 100 forgotten", 100, 100},
		{"nothing changed", 0, 0},
	} {
		for range step.come {
			if err := r.Backup(ctx, next%o.shape.Groups); err != nil {
				return err
			}
			next++
		}
		for i := range step.gone {
			if err := r.Forget(ctx, (next+i)%o.shape.Groups); err != nil {
				return err
			}
		}
		c, took, err := collect(ctx, r)
		if err != nil {
			return err
		}
		q := c.Requests
		fmt.Fprintf(&b, "| %s | %d | %d, %d, %d, %d, %d | %.1f, %.1f | %.1f |\n", step.name, c.Total(), q[meter.Get], q[meter.Put], q[meter.List],
			q[meter.Delete], q[meter.Stat]+q[meter.Retain], float64(c.Down)/(1<<20), float64(c.Up)/(1<<20), took.Seconds())
	}
	return o.Publish(page.Part{Name: "collections in a bucket", Make: "bench-collection"}, b.String())
}

// collect makes a collection, and says what it cost beyond reading the state of the
// repository.
func collect(ctx context.Context, r *synthetic.Repository) (meter.Counts, time.Duration, error) {
	m := meter.New(r.Store())
	l, err := r.Open(ctx, m)
	if err != nil {
		return meter.Counts{}, 0, err
	}
	opened := m.Counts()
	runtime.GC()
	start := time.Now()
	st, err := r.Collect(ctx, m, l)
	if err == nil && len(st.Warnings) > 0 {
		err = fmt.Errorf("warnings: %v", st.Warnings)
	}
	return m.Counts().Since(opened), time.Since(start), err
}
