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

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

func main() {
	o := program.Defaults(8)
	o.Flags("for images and repository", "rounds")
	o.Main("volume", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o program.Options) (err error) {
	dir, err := o.TempDir("volume")
	if err != nil {
		return err
	}
	about := measure.Describe(ctx, dir)
	s := &site{dir: dir, holdfast: o.Holdfast}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.stage(ctx); err != nil {
		return err
	}
	var r results
	for round := range o.Rounds {
		if err := s.round(ctx, round, &r); err != nil {
			return err
		}
	}
	return o.Publish(page.Part{Name: "volume", Make: "bench-volume"}, r.text(about))
}
