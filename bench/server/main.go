//go:build linux

// Command server measures the backup server beside a repository in a directory
// and over a long line, and writes its part of docs/benchmarks.md.
//
// # Beside a directory
//
// In each round a disk image of 2 GiB, made as that of make bench on a quarter
// of its scale, and the Go tree are backed up twice and restored: into a
// repository in a directory, and into one of the same make through a server on
// this machine's loopback, by TLS. Both lie on one file system; which comes
// first changes from round to round. Client and server share the cores. Dirty
// pages are written back before each job, and the source is in the page cache.
// What is restored is compared outside the timed part.
//
// Beside it as many bytes as the first backup stored go over one plain TLS
// connection from memory to nowhere: the limit of one core at each end. A job is
// held to 1.25 times what the directory needs, or to that limit if it is slower.
// The processor time of both ends is told too, for they share the cores.
//
// # Memory
//
// The resident set of the server after its start and one call, and the greatest
// one of a fresh server that 32 clients send noise to at the same time.
//
// # The line
//
// A proxy between client and server delays both directions and lets 125 MB
// pass a second; see line. The share is plain bytes of incompressible data over
// the wall time of the whole command, by what the line could carry in that time.
package main

import (
	"context"
	"flag"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/bench/page"
	"github.com/holdfast-backup/holdfast/bench/program"
)

type options struct {
	program.Options
	bench     string
	snapshots int
	noise     int64 // MiB
}

func main() {
	o := options{Options: program.Defaults(4)}
	o.Work = "bench/work/server-files"
	o.Flags("for input and repositories (10 GiB); what is in it goes", "rounds, even in number: what comes second is slower")
	flag.StringVar(&o.bench, "bench", "bench/work/bench", "the program of make bench, which makes the input")
	flag.IntVar(&o.snapshots, "snapshots", 10000, "snapshots to list")
	flag.Int64Var(&o.noise, "noise", 1024, "MiB of incompressible data over the long line")
	o.Main("server", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) error {
	if err := program.Absolute(&o.bench); err != nil {
		return err
	}
	s, err := newSite(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.dir) }()
	res := &results{machine: measure.Describe(ctx, s.dir), noise: o.noise << 20, snapshots: o.snapshots}
	for _, job := range []func(context.Context, *site, *results) error{idleMemory, beside, listing, distance, sessions} {
		if err := job(ctx, s, res); err != nil {
			return err
		}
	}
	var b strings.Builder
	res.write(&b)
	return o.Publish(page.Part{Name: "server", Make: "bench-server"}, b.String())
}
