//go:build linux

// Command guest measures what a backup costs a running guest of QEMU, and how
// fast it is, and writes its part of docs/benchmarks.md.
//
// # The guest's writes
//
// A small Linux guest (package appliance) writes 4096 bytes at a time, past its own
// cache, at random places of the first 256 MiB of a raw disk of 1 GiB that holds
// half a GiB of noise. In every round it does so three times, in an order that
// rotates:
//
//	none   nothing else happens
//	fast   backups with bitmaps, one after the other
//	slow   one backup that reads 2 MiB a second, so that it lasts all the time
//	       and nearly all that the guest writes is copied first
//
// A slow repository looks like slow to the guest: what is not stored stays in
// the scratch file. The first write to each 64 KiB costs a copy of them, 4096
// times here, and the longer a backup takes the fewer writes are first ones.
//
// # Speed
//
//	unchanged   the second backup of an unchanged sparse disk of 100 GiB with a
//	            bitmap, as a process: seconds, and bytes read
//	guest       a first backup of 2 GiB of noise over QEMU: MiB/s
//	file        the same of the image file, with the guest shut down
//
// Images lie in the page cache; repository and scratch files are on the same
// file system as they.
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

	"github.com/holdfast-backup/holdfast/bench/page"
)

type options struct {
	holdfast string
	work     string
	page     string
	rounds   int
	seconds  int
}

func main() {
	var o options
	flag.StringVar(&o.holdfast, "holdfast", "bin/holdfast", "the binary under test")
	flag.StringVar(&o.work, "work", "bench/work", "directory for images and repositories")
	flag.StringVar(&o.page, "page", "docs/benchmarks.md", "page to write the tables into; empty: none")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds")
	flag.IntVar(&o.seconds, "seconds", 40, "how long the guest writes each time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

// The generated part of the page lies between these lines.
const (
	pageStart = "<!-- guest: written by make bench-guest -->"
	pageEnd   = "<!-- end of guest -->"
)

func run(ctx context.Context, o options) (err error) {
	if o.holdfast, err = filepath.Abs(o.holdfast); err != nil {
		return err
	}
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return err
	}
	s := &site{o: o}
	if s.dir, err = os.MkdirTemp(o.work, "g"); err != nil { // short: sockets are in it
		return err
	}
	if s.dir, err = filepath.Abs(s.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	about := s.environment(ctx)
	var r results
	if err := s.latencies(ctx, &r); err != nil {
		return err
	}
	if err := s.speeds(ctx, &r); err != nil {
		return err
	}
	var body strings.Builder
	r.write(&body, about)
	fmt.Print(body.String())
	if o.page == "" {
		return nil
	}
	return page.Replace(o.page, pageStart, pageEnd, body.String()+"\n")
}
