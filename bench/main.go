//go:build linux

// Command bench measures Holdfast beside other backup programs on one
// realistic disk image, and writes docs/benchmarks.md.
//
// # The image
//
// An ext4 file system of 8 GiB with about 2.5 GiB of used data: the Go tree and
// module cache, files of Debian packages, logs, a database, incompressible
// data. The second day's image is the first with a day's changes: rewritten and
// deleted files, an upgraded package, a rotated log, 400 scattered writes of
// 8-64 KiB in the database file. Both are made with mkfs.ext4 -d and debugfs,
// without privilege, from fixed seeds; only the machine's own files differ.
//
// # The rounds
//
// In each round every tool runs its jobs on a repository of its own; the order
// of the tools rotates from round to round. Before a job all dirty pages are
// written back; then the page cache is warmed with the image (hot) or dropped
// (cold, root only). Wall time is that of the whole process, CPU time and peak
// RSS are the kernel's account of it. Every restored image is compared with
// the source outside the timed part.
//
// Results go to results.json after every round, so that an interrupted run is
// not lost; -report makes the page from it again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/program"
)

// options are the command line.
type options struct {
	program.Options
	peers      string
	tools      string
	cold       int
	sparseData int64 // MiB
	snapshots  int
	quick      bool
	report     bool
	generate   string
}

func main() {
	o := options{Options: program.Defaults(5)}
	o.Flags("for images, repositories and results (30 GiB)", "rounds with a hot cache")
	flag.StringVar(&o.peers, "peers", os.Getenv("HOLDFAST_BENCH_PEERS"), "directory searched for the peers before PATH (default WORK/peers)")
	flag.StringVar(&o.tools, "tools", "", "comma-separated tools to run besides holdfast (default: all that are found)")
	flag.IntVar(&o.cold, "cold", 5, "rounds with a cold cache (root)")
	flag.Int64Var(&o.sparseData, "sparse-data", 8<<10, "MiB of data in the 1 TiB sparse image, 0 to leave it out")
	flag.IntVar(&o.snapshots, "snapshots", 10000, "snapshots to list, 0 to leave it out")
	flag.BoolVar(&o.quick, "quick", false, "one round of holdfast, qemu-img and cp on a small image; writes no page")
	flag.BoolVar(&o.report, "report", false, "only make the page again from results.json")
	flag.StringVar(&o.generate, "generate", "", "(internal) make one input in this process: images, bucket, sparse, small, or snapshots in the repository -work")
	o.Main("bench", func(ctx context.Context) error { return run(ctx, o.settled()) })
}

// settled is what the flags mean together.
func (o options) settled() options {
	if o.quick {
		o.Rounds, o.cold, o.sparseData, o.snapshots, o.Page = 1, 0, 64, 300, ""
		o.Work = filepath.Join(o.Work, "quick")
		if o.tools == "" {
			o.tools = "qemu-img,cp"
		}
	}
	if o.peers == "" {
		o.peers = filepath.Join(o.Work, "peers")
	}
	return o
}

func run(ctx context.Context, o options) error {
	if err := program.Absolute(&o.peers); err != nil {
		return err
	}
	if o.generate != "" {
		return generate(ctx, o)
	}
	res := &results{path: filepath.Join(o.Work, "results.json")}
	if o.report {
		if err := res.load(); err != nil {
			return err
		}
		return writePage(o.Page, res)
	}
	if err := needPrograms("mkfs.ext4", "debugfs", "cp", o.Holdfast); err != nil {
		return err
	}
	if err := generateApart(ctx, o, "images"); err != nil {
		return err
	}
	res.Machine = measure.Describe(ctx, o.Work)
	b := &bench{options: o, res: res, tools: findTools(ctx, o)}
	if err := b.all(ctx); err != nil {
		return err
	}
	printSummary(os.Stdout, res)
	if o.Page != "" {
		return writePage(o.Page, res)
	}
	return nil
}

// generateApart makes an input in a process of its own: a child's peak RSS as
// the kernel counts it begins with that of the process that started it, so the
// one that measures must stay small.
func generateApart(ctx context.Context, o options, what string) error {
	args := []string{"-generate", what, "-work", strings.TrimSuffix(o.Work, "/quick")}
	if o.quick {
		args = append(args, "-quick")
	} else {
		args = append(args, fmt.Sprintf("-sparse-data=%d", o.sparseData))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("generate %s: %w", what, err)
	}
	return nil
}

func needPrograms(names ...string) error {
	var errs []error
	for _, n := range names {
		if _, err := exec.LookPath(n); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
