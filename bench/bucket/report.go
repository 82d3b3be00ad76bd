//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
	"github.com/holdfast-backup/holdfast/internal/objstore/objtest/gateway"
)

// values are what the samples of a job have, round by round.
func (b *bench) values(tool, job string, of func(sample) float64) (v []float64) {
	for _, s := range b.samples {
		if s.tool == tool && s.job == job {
			v = append(v, of(s))
		}
	}
	return v
}

func seconds(s sample) float64  { return s.Seconds }
func requests(s sample) float64 { return float64(s.all()) }

// median is that of a job's rounds; NaN: there were none.
func (b *bench) median(tool, job string, of func(sample) float64) float64 {
	v := b.values(tool, job, of)
	if len(v) == 0 {
		return math.NaN()
	}
	return measure.Median(v)
}

// least is the peer with the least median.
func (b *bench) least(job string, of func(sample) float64) (tool string, value float64) {
	value = math.Inf(1)
	for _, t := range b.tools {
		if v := b.median(t.name, job, of); t.name != "holdfast" && v < value {
			tool, value = t.name, v
		}
	}
	return tool, value
}

// goal is a bound on a ratio to the best peer, or on a plain figure.
type goal struct {
	what, against string
	value, most   float64
}

func (b *bench) goals() []goal {
	to := func(what, job string, of func(sample) float64, most float64) goal {
		tool, value := b.least(job, of)
		return goal{what, tool, b.median("holdfast", job, of) / value, most}
	}
	return []goal{
		to("first backup, time", jobFirst, seconds, 0.5),
		to("first backup, requests", jobFirst, requests, 0.5),
		to("restore to a new file, time", jobRestore, seconds, 1.0/3),
		{fmt.Sprintf("first list of a directory, %v away, seconds", b.latency), "", b.median("holdfast", jobList, seconds), 1},
	}
}

func (b *bench) write(w io.Writer) {
	fmt.Fprintf(w, "%s versitygw %s. %d rounds.\n\n", b.machine, gateway.Version, b.Rounds)
	fmt.Fprint(w, "| tool | version | set-up |\n|---|---|---|\n")
	for _, t := range b.tools {
		fmt.Fprintf(w, "| %s | %s | %s |\n", t.name, t.version, t.about)
	}
	fmt.Fprint(w, "\n| what | ratio to | goal | reached | |\n|---|---|---|---|---|\n")
	for _, g := range b.goals() {
		if math.IsNaN(g.value) || g.value == 0 {
			fmt.Fprintf(w, "| %s | %s | ≤ %.3g | not measured | |\n", g.what, g.against, g.most)
			continue
		}
		verdict := "met"
		if g.value > g.most {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | ≤ %.3g | %.3g | %s |\n", g.what, g.against, g.most, g.value, verdict)
	}
	b.table(w, "Seconds, median and range:", func(v []sample) string {
		s := each(v, seconds)
		return fmt.Sprintf("%.2f (%.2f–%.2f)", measure.Median(s), slices.Min(s), slices.Max(s))
	})
	b.table(w, "Requests of one round:", func(v []sample) string {
		var parts []string
		for _, method := range slices.Sorted(maps.Keys(v[0].Requests)) {
			parts = append(parts, fmt.Sprintf("%d %s", v[0].Requests[method], method))
		}
		return strings.Join(parts, ", ")
	})
	b.table(w, "Processor seconds of the tool and of the engine, medians, and greatest peak RSS of the tool in MiB:", func(v []sample) string {
		return fmt.Sprintf("%.1f · %.1f · %.0f", measure.Median(each(v, func(s sample) float64 { return s.CPU })),
			measure.Median(each(v, func(s sample) float64 { return s.engine })), slices.Max(each(v, func(s sample) float64 { return float64(s.RSS) / (1 << 20) })))
	})
	b.table(w, "MiB to the engine and from it, in one round:", func(v []sample) string {
		return fmt.Sprintf("%d · %d", v[0].Up>>20, v[0].Down>>20)
	})
	if len(b.figures) == 0 {
		return
	}
	fmt.Fprintf(w, "\nHoldfast %v away, medians:\n\n| what | |\n|---|---|\n", b.latency)
	for _, name := range slices.Sorted(maps.Keys(b.figures)) {
		fmt.Fprintf(w, "| %s | %.3g |\n", name, measure.Median(slices.Clone(b.figures[name])))
	}
}

func each(v []sample, of func(sample) float64) (all []float64) {
	for _, s := range v {
		all = append(all, of(s))
	}
	return all
}

// table has a row for each job and a column for each tool.
func (b *bench) table(w io.Writer, title string, cell func([]sample) string) {
	fmt.Fprintf(w, "\n%s\n\n| job |", title)
	for _, t := range b.tools {
		fmt.Fprintf(w, " %s |", t.name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(b.tools)))
	for _, job := range jobs {
		fmt.Fprintf(w, "| %s |", job)
		for _, t := range b.tools {
			var of []sample
			for _, s := range b.samples {
				if s.tool == t.name && s.job == job {
					of = append(of, s)
				}
			}
			if len(of) == 0 {
				fmt.Fprint(w, " – |")
				continue
			}
			fmt.Fprintf(w, " %s |", cell(of))
		}
		fmt.Fprintln(w)
	}
}
