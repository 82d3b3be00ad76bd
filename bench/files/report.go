//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// goal is a row: what was wanted, and what came out.
type goal struct {
	what  string
	goal  string
	value float64
	met   bool
}

func atMost(what string, value, most float64) goal {
	return goal{what, fmt.Sprintf("≤ %.3g", most), value, value <= most}
}

func atLeast(what string, value, least float64) goal {
	return goal{what, fmt.Sprintf("≥ %.3g", least), value, value >= least}
}

// of is the median of a job's rounds.
func (r results) of(name string) float64 { return measure.Median(slices.Clone(r[name])) }

func (s *site) goals(ctx context.Context, r results) ([]goal, error) {
	out, _, err := s.holdfast("file-restore", "appliance", "info", "--output-format", "json").Run(ctx)
	if err != nil {
		return nil, err
	}
	var appliance struct {
		Size int64 `json:"size"`
	}
	if err := json.Unmarshal(out, &appliance); err != nil {
		return nil, err
	}
	all := []goal{
		atMost("first listing of a directory, cold, milliseconds", 1000*r.of("list, cold"), 100),
		atMost("the same once more in one process, milliseconds", 1000*r.of("list, same process"), 10),
		atLeast("rate of a file of 1 GiB over that of a restore, cold", r.of("big archive, cold")/r.of("big file, cold"), 0.8),
		atLeast("the same, warm", r.of("big archive, warm")/r.of("big file, warm"), 0.8),
		atLeast("rate of 100,000 files as tar over tar from a mount of the mapping, cold", r.of("many, mounted, cold")/r.of("many, cold"), 1),
		atLeast("the same, warm", r.of("many, mounted, warm")/r.of("many, warm"), 1),
		atMost("first listing from a restore machine under TCG, seconds", r.of("machine, first"), 10),
		atMost("the machine's file system, MB", float64(appliance.Size)/1e6, 25),
	}
	if len(r["guestfish"]) > 0 {
		all = append(all, atLeast("first listing by `guestfish --ro -i` over that from a restore machine", r.of("guestfish")/r.of("machine, first"), 3))
	}
	return all, nil
}

func (s *site) report(ctx context.Context, w io.Writer, about measure.Machine, r results) error {
	goals, err := s.goals(ctx, r)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s %s %d rounds.\n\n", about, measure.Versions(ctx, []string{s.o.Holdfast, "version"}), s.o.Rounds)
	fmt.Fprint(w, "| what | goal | reached | |\n|---|---|---|---|\n")
	for _, g := range goals {
		verdict := "met"
		if !g.met {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | %.3g | %s |\n", g.what, g.goal, g.value, verdict)
	}
	fmt.Fprint(w, "\nSeconds of each job, median and range:\n\n| job | median | range |\n|---|---|---|\n")
	for _, n := range slices.Sorted(maps.Keys(r)) {
		fmt.Fprintf(w, "| %s | %.3f | %.3f–%.3f |\n", n, r.of(n), slices.Min(r[n]), slices.Max(r[n]))
	}
	return nil
}
