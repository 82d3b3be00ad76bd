//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// goal is a bound that the project set itself on a job's time as a share of the
// fastest of some tools'.
type goal struct {
	job     string
	against []string // nil: all peers
	bound   float64
}

var goals = []goal{
	{jobFirst, nil, 0.5},
	{jobSecond, nil, 0.5},
	{jobRestore, nil, 0.5},
	{jobList, []string{"restic", "borg"}, 1},
	{jobCat, []string{"loopback"}, 1},
}

// most is the bound on memory, whatever the tree.
const most = 200 * mib

func (r *results) write(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", r.Machine)
	fmt.Fprintf(w, "The tree has %d entries and %d MiB in files.\n\n", r.Entries, r.Bytes/mib)
	fmt.Fprintln(w, "| tool | version | set-up |\n|---|---|---|")
	for _, t := range r.Tools {
		fmt.Fprintf(w, "| %s | %s | %s |\n", t.Name, t.Version, t.About)
	}
	fmt.Fprintln(w)
	r.writeGoals(w)
	fmt.Fprint(w, "### Wall time of trees, hot cache\n\nMedian in seconds, least–greatest in brackets.\n\n")
	r.table(w, func(f figures) string {
		if f.median == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f (%.2f–%.2f)", f.median, f.least, f.worst)
	})
	fmt.Fprint(w, "### CPU seconds (median) and peak RSS in MiB (greatest)\n\n")
	r.table(w, func(f figures) string {
		switch {
		case f.rss == 0:
			return ""
		case f.cpu == 0:
			return fmt.Sprintf("%d", f.rss/mib)
		}
		return fmt.Sprintf("%.1f · %d", f.cpu, f.rss/mib)
	})
	r.writeSizes(w)
	r.writeMany(w)
	for _, e := range r.Errors {
		fmt.Fprintf(w, "Failed: %s\n\n", strings.ReplaceAll(e, "\n", " "))
	}
}

func (r *results) writeGoals(w io.Writer) {
	fmt.Fprint(w, "| what | ratio to | goal | reached | |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		against := g.against
		if against == nil {
			against = r.peers()
		}
		tool, f := r.fastest(g.job, against...)
		writeGoal(w, g.job, tool, g.bound, r.figures("holdfast", g.job).median/f.median)
	}
	var rss int64
	for _, s := range append(r.Samples[:len(r.Samples):len(r.Samples)], r.Many...) {
		if s.Tool == "holdfast" {
			rss = max(rss, s.RSS)
		}
	}
	what := "peak RSS of any job, MiB"
	if r.Files > 0 {
		what += fmt.Sprintf(" (a tree of %d files among them)", r.Files)
	}
	writeGoal(w, what, "", most/mib, float64(rss)/mib)
	fmt.Fprintln(w)
}

func writeGoal(w io.Writer, what, against string, bound, value float64) {
	verdict := "met"
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0) || value == 0:
		fmt.Fprintf(w, "| %s | %s | ≤ %.3g | not measured | |\n", what, against, bound)
		return
	case value > bound:
		verdict = "**missed**"
	}
	fmt.Fprintf(w, "| %s | %s | ≤ %.3g | %.3g | %s |\n", what, against, bound, value, verdict)
}

// table prints one row a job and one column a tool; rows without any figure are
// left out.
func (r *results) table(w io.Writer, cell func(figures) string) {
	fmt.Fprint(w, "| job |")
	for _, t := range r.Tools {
		fmt.Fprintf(w, " %s |", t.Name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(r.Tools)))
	for _, j := range jobs {
		row, some := "", false
		for _, t := range r.Tools {
			c := "–"
			if f := r.figures(t.Name, j); f.n > 0 && cell(f) != "" {
				c, some = cell(f), true
			}
			row += " " + c + " |"
		}
		if some {
			fmt.Fprintf(w, "| %s |%s\n", j, row)
		}
	}
	fmt.Fprintln(w)
}

func (r *results) writeSizes(w io.Writer) {
	var parts []string
	for _, t := range r.Tools {
		if n := r.Sizes[t.Name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", t.Name, n/mib))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(w, "Repository after the first backup, MiB: %s.\n\n", strings.Join(parts, ", "))
	}
}

func (r *results) writeMany(w io.Writer) {
	if len(r.Many) == 0 {
		return
	}
	fmt.Fprintf(w, "### A tree of %d files\n\nOne of 50 has content, 20 bytes; 1000 in a directory.\n\n| job | seconds | CPU seconds | peak RSS, MiB |\n|---|---|---|---|\n", r.Files)
	for _, s := range r.Many {
		fmt.Fprintf(w, "| %s | %.1f | %.1f | %d |\n", s.Job, s.Seconds, s.CPU, s.RSS/mib)
	}
	fmt.Fprintln(w)
}
