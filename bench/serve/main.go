//go:build linux

// Command serve measures how fast a backup reads as a disk, beside programs
// that serve the raw image, and writes its part of docs/benchmarks.md.
//
// All tools of a comparison run in every round, one after the other, in an
// order that rotates; each is a fresh process. The disk is the first day's
// image of make bench, backed up with defaults; the small one is 64 MiB of
// noise. Everything that is read lies in the page cache (encoded for Holdfast,
// raw for the others); Holdfast's own cache of decoded chunks begins empty
// except where "warm" says otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/page"
)

type options struct {
	holdfast string
	work     string
	page     string
	rounds   int
}

func main() {
	var o options
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the binary under test")
	flag.StringVar(&o.work, "work", "bench/work", "directory with the images of make bench, and for repositories")
	flag.StringVar(&o.page, "page", "docs/benchmarks.md", "page to write the tables into; empty: none")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

// The generated part of the page lies between these lines.
const (
	pageStart = "<!-- serving: written by make bench-serve -->"
	pageEnd   = "<!-- end of serving -->"
)

func run(ctx context.Context, o options) (err error) {
	if o.holdfast, err = filepath.Abs(o.holdfast); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("mapping to a loop device needs root")
	}
	var missing []error
	for _, name := range []string{o.holdfast, "fio", "nbdcopy", "nbdkit", "qemu-nbd", "dd", "losetup"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, err)
		}
	}
	if err := errors.Join(missing...); err != nil {
		return fmt.Errorf("%w: make bench-peers installs them", err)
	}
	s, err := newSite(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	var res results
	for n := range o.rounds {
		for _, job := range []func(context.Context, *site, int, *results) error{warmReads, sequential, coldReads, firstSector} {
			if err := job(ctx, s, n, &res); err != nil {
				return err
			}
		}
	}
	var b strings.Builder
	res.write(&b, environment(ctx, o.holdfast))
	fmt.Print("\n" + b.String())
	if o.page == "" {
		return nil
	}
	return page.Replace(o.page, pageStart, pageEnd, b.String())
}
