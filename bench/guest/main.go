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
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

type options struct {
	program.Options
	seconds int
}

func main() {
	o := options{Options: program.Defaults(3)}
	o.Flags("for images and repositories", "rounds")
	flag.IntVar(&o.seconds, "seconds", 40, "how long the guest writes each time")
	o.Main("guest", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) (err error) {
	s := &site{o: o}
	if s.dir, err = o.TempDir("g"); err != nil { // short: sockets are in it
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	about := measure.Describe(ctx, s.dir).String() + " " + measure.Versions(ctx, []string{o.Holdfast, "version"}, []string{"qemu-system-x86_64", "--version"})
	var r results
	if err := s.latencies(ctx, &r); err != nil {
		return err
	}
	if err := s.speeds(ctx, &r); err != nil {
		return err
	}
	var body strings.Builder
	r.write(&body, about)
	return o.Publish(page.Part{Name: "guest", Make: "bench-guest"}, body.String())
}
