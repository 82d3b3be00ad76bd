//go:build linux

// Command volume measures volumes, and writes its part of docs/benchmarks.md.
//
// An image of 2 GiB, half of it holes, a quarter noise and a quarter text, is backed up on
// two days; between them 64 MiB are new and 800 blocks of 4 KiB are scattered. Before
// every measurement the target holds the first day, and then the second one is
// restored, by a process of its own, in an order that rotates:
//
//	file      restore --in-place to a file: what the others are compared with
//	inside    restore --volume to a file
//	device    restore --in-place to a loop device
//	volume    restore --volume to a loop device, the payload behind the first sector
//	aligned   the same with the payload at 1 MiB
//
// All of them read and hash what is there; the holes of the file, and of the one inside, are known
// and not read, those of a device are. Files, the loop devices' too, and repository lie on
// one file system and in the page cache. Ensure is the process that finds a header that
// matches.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"golang.org/x/sys/unix"
)

type options struct {
	holdfast, work, page string
	rounds               int
}

func main() {
	var o options
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the binary under test")
	flag.StringVar(&o.work, "work", "bench/work", "directory for images and repository")
	flag.StringVar(&o.page, "page", "docs/benchmarks.md", "page to write the table into; empty: none")
	flag.IntVar(&o.rounds, "rounds", 8, "rounds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "volume:", err)
		os.Exit(1)
	}
}

// The generated part of the page lies between these lines.
const (
	pageStart = "<!-- volume: written by make bench-volume -->"
	pageEnd   = "<!-- end of volume -->"
)

func run(ctx context.Context, o options) (err error) {
	if o.holdfast, err = filepath.Abs(o.holdfast); err != nil {
		return err
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.work, "volume")
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	about := measure.Describe(ctx, dir)
	s := &site{dir: dir, holdfast: o.holdfast}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.stage(ctx); err != nil {
		return err
	}
	var r results
	for round := range o.rounds {
		if err := s.round(ctx, round, &r); err != nil {
			return err
		}
	}
	text := r.text(about)
	fmt.Println(text)
	if o.page == "" {
		return nil
	}
	return page.Replace(o.page, pageStart, pageEnd, text)
}
