//go:build linux

// Package program is the frame of the programs that measure: the flags that mean the same
// in all, an end by a signal that lets what was made be removed, and where the tables go.
package program

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/page"
	"golang.org/x/sys/unix"
)

// Options are the flags that all have. What they hold before Flags is the default.
type Options struct {
	Holdfast string // the binary under test; empty: the program has none, and no such flag
	Work     string // directory for what is measured
	Page     string // page to write the tables into; empty: none
	Rounds   int
}

// Defaults are those of most programs.
func Defaults(rounds int) Options {
	return Options{Holdfast: "bin/holdfast", Work: "bench/work", Page: "docs/benchmarks.md", Rounds: rounds}
}

// Flags defines the flags; work says what the directory is for, rounds what is repeated.
func (o *Options) Flags(work, rounds string) {
	if o.Holdfast != "" {
		flag.StringVar(&o.Holdfast, "holdfast", o.Holdfast, "the binary under test")
	}
	flag.StringVar(&o.Work, "work", o.Work, "directory "+work)
	flag.StringVar(&o.Page, "page", o.Page, "page to write the tables into; empty: none")
	flag.IntVar(&o.Rounds, "rounds", o.Rounds, rounds)
}

// Main parses the flags, makes paths absolute, and runs until run returns, whose context
// ends with SIGINT or SIGTERM. name is how the program calls itself when it fails.
func (o *Options) Main(name string, run func(context.Context) error) {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	err := Absolute(&o.Work)
	if err == nil && o.Holdfast != "" {
		err = Absolute(&o.Holdfast)
	}
	if err == nil {
		err = run(ctx)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Absolute makes paths absolute, for processes in other directories.
func Absolute(paths ...*string) (err error) {
	for _, p := range paths {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	return nil
}

// TempDir makes a directory for one run below Work.
func (o *Options) TempDir(prefix string) (string, error) {
	if err := os.MkdirAll(o.Work, 0o755); err != nil {
		return "", err
	}
	return os.MkdirTemp(o.Work, prefix)
}

// Publish prints the tables, and puts them into the page if there is one.
func (o *Options) Publish(part page.Part, tables string) error {
	fmt.Printf("\n%s\n", strings.Trim(tables, "\n"))
	if o.Page == "" {
		return nil
	}
	return page.Replace(o.Page, part, tables)
}
