//go:build linux

// Command bucket measures repositories in an object store beside other programs that
// keep backups in one, and writes its part of docs/benchmarks.md.
//
// # The engine
//
// versitygw with files of the local file system behind it (posix, metadata in extended
// attributes), plain HTTP on the loopback. Each tool of each round has an engine of its
// own, started anew, and an empty bucket. Between the two a proxy, the same for all,
// counts the requests. Tool, proxy and engine share the cores.
//
// # Beside other programs
//
// The image of make bench on less than half of its scale: 2 GiB, of which 1 GiB is data,
// and the same a day later. Each tool makes an empty repository, backs both days
// up, the second by reading everything, and restores the second to a new file, with
// the caches that it has from its backups; Holdfast has none. Restores end with the
// data on the disk. Dirty pages are written back before each job, and the source is in
// the page cache. What is restored is compared outside the timed part. Requests are
// those of the job alone.
//
// # At a distance
//
// The proxy holds each request back for -latency before it hands it on, and each answer
// likewise; the first request of a connection waits for twice that before, as it does
// for TCP to shake hands. Nothing limits the rate. Then a directory is listed by a process
// that was just started and has nothing but the address; single blocks of 4 KiB are
// read from `holdfast nbd serve`, from places where the image has data, each drawn
// anew, by one reader and by 16 at a time; and all is restored once more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
)

type options struct {
	program.Options
	maker   string
	peers   string
	gateway string
	tools   string
	latency time.Duration
	keep    bool
}

func main() {
	o := options{Options: program.Defaults(2)}
	o.Work = "bench/work/bucket-files"
	o.Flags("for images, buckets and what is restored (6 GiB); what is in it goes", "rounds")
	flag.StringVar(&o.maker, "bench", "bench/work/bench", "the program of make bench, which makes the images")
	flag.StringVar(&o.peers, "peers", "bench/work/peers", "directory with restic and kopia")
	flag.StringVar(&o.gateway, "gateway", "", "versitygw (default: the one that test/packages built)")
	flag.StringVar(&o.tools, "tools", "holdfast,restic,kopia", "who takes part")
	flag.DurationVar(&o.latency, "latency", 30*time.Millisecond, "how long the proxy holds each request and each answer back; 0: no jobs at a distance")
	flag.BoolVar(&o.keep, "keep", false, "use the images of the last run with this flag, and leave them")
	o.Main("bucket", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) (err error) {
	if o.gateway == "" {
		if o.gateway, err = gateway.Program(); err != nil {
			return fmt.Errorf("%w (test/packages builds it)", err)
		}
	}
	if err := program.Absolute(&o.maker, &o.peers, &o.gateway); err != nil {
		return err
	}
	b := &bench{options: o}
	if b.tools, err = findTools(ctx, o); err != nil {
		return err
	}
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(o.Work)) }()
	}
	if err := b.images(ctx); err != nil {
		return err
	}
	b.machine = measure.Describe(ctx, o.Work)
	for n := range o.Rounds {
		for i := range b.tools { // another first one each round
			if err := b.round(ctx, b.tools[(i+n)%len(b.tools)], n); err != nil {
				return err
			}
		}
	}
	var body strings.Builder
	b.write(&body)
	return o.Publish(page.Part{Name: "bucket", Make: "bench-bucket"}, body.String())
}

// bench is one run.
type bench struct {
	options
	machine measure.Machine
	tools   []*tool
	samples []sample
	figures map[string][]float64 // of random reads
}

func (b *bench) file(rel ...string) string {
	return filepath.Join(append([]string{b.Work}, rel...)...)
}

// imageOf is the image of a day.
func (b *bench) imageOf(day int) string { return b.file(fmt.Sprintf("day%d.img", day)) }

// images makes those of both days, in a process of its own: the peak of a child's
// memory as the kernel counts it begins with that of the process that started it.
func (b *bench) images(ctx context.Context) error {
	if _, err := os.Stat(b.imageOf(1)); err == nil && b.keep {
		return nil
	}
	if err := errors.Join(os.RemoveAll(b.Work), os.MkdirAll(b.Work, 0o755)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, b.maker, "-generate", "bucket", "-work", b.Work)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// findTools returns those who take part.
func findTools(ctx context.Context, o options) (tools []*tool, err error) {
	for _, t := range []*tool{holdfast(o.Holdfast), restic(o.peers), kopia(o.peers)} {
		if !slices.Contains(strings.Split(o.tools, ","), t.name) {
			continue
		}
		if err := t.ask(ctx); err != nil {
			return nil, fmt.Errorf("%w (make bench-peers builds restic and kopia)", err)
		}
		tools = append(tools, t)
	}
	return tools, nil
}
