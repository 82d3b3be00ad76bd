//go:build linux

// Command tree measures Holdfast beside other backup programs on a directory
// tree, and writes its part of docs/benchmarks.md.
//
// # The tree
//
// A copy of /usr, of the Go tree if that lies elsewhere, and of the module cache
// if both together have less than 100,000 entries. It lies beside the
// repositories, on the same file system. Beside it a file of 1 GiB, half of it
// incompressible.
//
// # The rounds
//
// In each round every tool makes its first backup, one of the unchanged tree,
// one after small changes (a line more in 1 % of the files, 100 files gone, 200
// new), restores the tree to a new directory, and mounts it: ls -lR, find -type
// f, and the big file from 16 MiB on. All in a repository of its own, with
// default settings where nothing else is said; the order of the tools rotates.
// Before a job dirty pages are written back and the source is read once, so that
// it lies in the page cache. Wall time is that of the whole process; the backup
// programs do not wait for the disk here, neither does tar.
//
// For Holdfast the unchanged tree is also backed up in the other two modes. Its
// first restored tree is compared with the source by test/check/treecmp.py; of
// the others the entries are counted.
//
// # Many files
//
// With -many N a tree of N files, one of 50 with content, in directories of 1000
// is made in a file system of its own, backed up in each mode and restored: how
// much memory that takes is what matters. It needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

type options struct {
	program.Options
	peers    string
	tools    string
	many     int
	manyOnly bool
	report   bool
	loopback string
}

func main() {
	o := options{Options: program.Defaults(3)}
	o.Work = "bench/work/tree"
	o.Flags("for the tree, repositories and results (40 GiB)", "rounds")
	flag.StringVar(&o.peers, "peers", "bench/work/peers", "directory searched for the peers before PATH")
	flag.StringVar(&o.tools, "tools", "", "comma-separated tools (default: all that are found)")
	flag.IntVar(&o.many, "many", 0, "files of the synthetic tree, 0 to leave it out")
	flag.BoolVar(&o.manyOnly, "many-only", false, "the synthetic tree only; what was measured before of the rest stays")
	flag.BoolVar(&o.report, "report", false, "only write the tables again from results.json")
	flag.StringVar(&o.loopback, "loopback", "", "(internal) serve this directory at the argument")
	o.Main("tree", func(ctx context.Context) error {
		if o.loopback != "" {
			return loopback(o.loopback, flag.Arg(0))
		}
		return run(ctx, o)
	})
}

func run(ctx context.Context, o options) error {
	if err := program.Absolute(&o.peers); err != nil {
		return err
	}
	if err := os.MkdirAll(o.Work, 0o755); err != nil {
		return err
	}
	res := &results{path: filepath.Join(o.Work, "results.json")}
	if o.report || o.manyOnly {
		if err := res.load(); err != nil && (o.report || !errors.Is(err, os.ErrNotExist)) {
			return err
		}
	}
	if !o.report {
		if err := measureAll(ctx, o, res); err != nil {
			return err
		}
	}
	var b strings.Builder
	res.write(&b)
	return o.Publish(page.Part{Name: "trees", Make: "bench-tree"}, b.String())
}

func measureAll(ctx context.Context, o options, res *results) error {
	if !o.manyOnly {
		res.Machine = measure.Describe(ctx, o.Work)
		b := &bench{options: o, res: res}
		if err := b.all(ctx); err != nil {
			return err
		}
	}
	if o.many > 0 {
		res.Many = nil
		if err := many(ctx, o, res); err != nil {
			return err
		}
	}
	return res.save()
}
