//go:build linux

// Command files measures how files come out of the disk images of a backup, beside
// other ways to get at them, and writes its part of docs/benchmarks.md. It needs root,
// for the mount that it is compared with, and an empty page cache now and then.
//
// # The image
//
// A sparse disk of 1 TiB with a partition table and one ext4 in it: 100,000 files of 200
// bytes to 8 KiB in 1,000 directories, a file of 1 GiB of noise, and what programs take for
// the root of a Debian. A second archive of the snapshot is the file of noise alone.
//
// # Jobs
//
// All but one are whole processes, started anew. Repository and work are on one file
// system; rounds of the same job are not one after the other. Cold means an empty page
// cache, but for the program's own file.
//
//	list      file-restore list of a directory with 100 files, --driver direct
//	again     the same through the packages, in this process: of an image that was just opened,
//	          then of another directory, then of the first one
//	big       file-restore extract of the file of noise to /dev/null, --driver direct, beside
//	          holdfast restore of the archive of the same bytes
//	many      file-restore extract --format tar of the 1,000 directories, beside map, a
//	          read-only mount of the mapping, and GNU tar of it; both write to a pipe
//	machine   file-restore list of the directory with --driver vm until it is shown, no machine
//	          running before, beside guestfish --ro -i ls, which reads the same backup from
//	          holdfast nbd serve. guestfish has the same kernel, TCG too, and its own cached appliance
//	small     file-restore extract --format tar with --driver vm of 100 of the directories
//
// Where guestfish cannot be run its row is missing.
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
	rounds   int
	keep     bool
}

func main() {
	var o options
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the binary under test")
	flag.StringVar(&o.work, "work", "bench/work", "directory for the image and the repository")
	flag.StringVar(&o.page, "page", "docs/benchmarks.md", "page to write the tables into; empty: none")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds")
	flag.BoolVar(&o.keep, "keep", false, "use the repository of the last run with this flag, and leave it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "files:", err)
		os.Exit(1)
	}
}

// The generated part of the page lies between these lines.
const (
	pageStart = "<!-- files: written by make bench-files -->"
	pageEnd   = "<!-- end of files -->"
)

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("root is needed to mount, and to empty the page cache")
	}
	if o.holdfast, err = filepath.Abs(o.holdfast); err != nil {
		return err
	}
	s := &site{o: o}
	if s.dir, err = filepath.Abs(filepath.Join(o.work, "files")); err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	}
	about := measure.Describe(ctx, o.work)
	if err := s.prepare(ctx); err != nil {
		return err
	}
	r := results{}
	for range o.rounds {
		for _, j := range s.jobs() {
			if err := j(ctx, r); err != nil {
				return err
			}
		}
	}
	var body strings.Builder
	if err := s.report(ctx, &body, about, r); err != nil {
		return err
	}
	fmt.Print(body.String())
	if o.page == "" {
		return nil
	}
	return page.Replace(o.page, pageStart, pageEnd, body.String()+"\n")
}
