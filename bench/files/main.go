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
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

type options struct {
	program.Options
	keep bool
}

func main() {
	o := options{Options: program.Defaults(5)}
	o.Flags("for the image and the repository", "rounds")
	flag.BoolVar(&o.keep, "keep", false, "use the repository of the last run with this flag, and leave it")
	o.Main("files", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("root is needed to mount, and to empty the page cache")
	}
	s := &site{o: o, dir: filepath.Join(o.Work, "files")}
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	}
	about := measure.Describe(ctx, o.Work)
	if err := s.prepare(ctx); err != nil {
		return err
	}
	r := results{}
	for range o.Rounds {
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
	return o.Publish(page.Part{Name: "files", Make: "bench-files"}, body.String())
}
