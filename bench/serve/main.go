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
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

func main() {
	o := program.Defaults(5)
	o.Flags("with the images of make bench, and for repositories", "rounds")
	o.Main("serve", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o program.Options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("mapping to a loop device needs root")
	}
	var missing []error
	for _, name := range []string{o.Holdfast, "fio", "nbdcopy", "nbdkit", "qemu-nbd", "dd", "losetup"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, err)
		}
	}
	if err := errors.Join(missing...); err != nil {
		return fmt.Errorf("%w: make bench-peers installs them", err)
	}
	about := measure.Describe(ctx, o.Work).String() + " " + measure.Versions(ctx, []string{o.Holdfast, "version"},
		[]string{"nbdkit", "--version"}, []string{"qemu-nbd", "--version"}, []string{"nbdcopy", "--version"}, []string{"fio", "--version"})
	s, err := newSite(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.remove()) }()
	var res results
	for n := range o.Rounds {
		for _, job := range []func(context.Context, *site, int, *results) error{warmReads, sequential, coldReads, firstSector} {
			if err := job(ctx, s, n, &res); err != nil {
				return err
			}
		}
	}
	var b strings.Builder
	res.write(&b, about)
	return o.Publish(page.Part{Name: "serving", Make: "bench-serve"}, b.String())
}
