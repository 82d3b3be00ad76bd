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
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
)

type options struct {
	holdfast string
	work     string
	page     string
	peers    string
	tools    string
	rounds   int
	many     int
	manyOnly bool
	report   bool
	loopback string
}

func parseOptions() (o options) {
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the binary under test")
	flag.StringVar(&o.work, "work", "bench/work/tree", "directory for the tree, repositories and results (40 GiB)")
	flag.StringVar(&o.page, "page", "docs/benchmarks.md", "page to write the tables into; empty: none")
	flag.StringVar(&o.peers, "peers", "bench/work/peers", "directory searched for the peers before PATH")
	flag.StringVar(&o.tools, "tools", "", "comma-separated tools (default: all that are found)")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds")
	flag.IntVar(&o.many, "many", 0, "files of the synthetic tree, 0 to leave it out")
	flag.BoolVar(&o.manyOnly, "many-only", false, "the synthetic tree only; what was measured before of the rest stays")
	flag.BoolVar(&o.report, "report", false, "only write the tables again from results.json")
	flag.StringVar(&o.loopback, "loopback", "", "(internal) serve this directory at the argument")
	flag.Parse()
	return o
}

func main() {
	o := parseOptions()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := run
	if o.loopback != "" {
		run = func(context.Context, options) error { return loopback(o.loopback, flag.Arg(0)) }
	}
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "tree:", err)
		os.Exit(1)
	}
}

// The generated part of the page lies between these lines.
const (
	pageStart = "<!-- trees: written by make bench-tree -->"
	pageEnd   = "<!-- end of trees -->"
)

func run(ctx context.Context, o options) (err error) {
	for _, p := range []*string{&o.holdfast, &o.work, &o.peers} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	res := &results{path: filepath.Join(o.work, "results.json")}
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
	fmt.Print("\n" + b.String())
	if o.page == "" {
		return nil
	}
	return page.Replace(o.page, pageStart, pageEnd, b.String())
}

func measureAll(ctx context.Context, o options, res *results) error {
	if !o.manyOnly {
		res.Machine = measure.Describe(ctx, o.work)
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
