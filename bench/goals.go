//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
)

// goal is a bound on a ratio (or a plain figure) that the project set itself.
type goal struct {
	what  string
	bound float64
	got   func(r *results) (value float64, against string)
}

// against returns Holdfast's median as a share of another's, hot.
func against(job, tool string) func(*results) (float64, string) {
	return func(r *results) (float64, string) {
		return share(r.figures("hot", "holdfast", job), r.figures("hot", tool, job)), tool
	}
}

// againstFastest is the same against the fastest deduplicating peer.
func againstFastest(job string) func(*results) (float64, string) {
	return func(r *results) (float64, string) {
		tool, f := r.fastest("hot", job)
		return share(r.figures("hot", "holdfast", job), f), tool
	}
}

// againstOwn compares two of Holdfast's own jobs.
func againstOwn(job, other string) func(*results) (float64, string) {
	return func(r *results) (float64, string) {
		return share(r.figures("hot", "holdfast", job), r.figures("hot", "holdfast", other)), "own " + other
	}
}

func share(f, of figures) float64 {
	if f.n == 0 || of.n == 0 {
		return math.NaN()
	}
	return f.median / of.median
}

var goals = []goal{
	{"first backup", 0.5, againstFastest(jobFirst)},
	{"first backup", 1, against(jobFirst, "qemu-img")},
	{"second backup, full scan", 0.4, againstFastest(jobSecond)},
	{"second backup with a changed map, per full scan", 1, againstOwn(jobChanged, jobSecond)},
	{"repository after the first backup", 1.05, smallestRepository},
	{"restore to a new file", 1.0 / 3, againstFastest(jobRestore)},
	{"restore to a new file", 1, against(jobRestore, "cp")},
	{"restore in place, target hashed", 0.5, againstOwn(jobInPlace, jobRestore)},
	{"restore in place, base known", 1.0 / 6, againstOwn(jobInPlaceBase, jobRestore)},
	{"verify", 0.4, againstFastest(jobVerify)},
	{"peak RSS of any job, MiB", 100, func(r *results) (float64, string) {
		f := summarize(append(r.Samples[:len(r.Samples):len(r.Samples)], r.Sparse...), func(s sample) bool { return s.Tool == "holdfast" })
		return float64(f.rss) / mib, ""
	}},
	{"listing 10,000 snapshots, cold, seconds", 1, func(r *results) (float64, string) {
		f := summarize(r.Listing, func(s sample) bool { return s.Cache == "cold" })
		if f.n == 0 || r.Listed < 10000 {
			return math.NaN(), ""
		}
		return f.median, ""
	}},
}

func smallestRepository(r *results) (float64, string) {
	least, tool, own := math.Inf(1), "", math.NaN()
	for _, s := range r.Sizes {
		switch {
		case s.Job != jobFirst || s.Tool == "cp":
		case s.Tool == "holdfast":
			own = float64(s.Bytes)
		case float64(s.Bytes) < least:
			least, tool = float64(s.Bytes), s.Tool
		}
	}
	return own / least, tool
}

func writeGoals(w io.Writer, r *results) {
	fmt.Fprint(w, "### Goals (medians, hot cache)\n\n| what | ratio to | goal | reached | |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		value, tool := g.got(r)
		verdict := "met"
		switch {
		case math.IsNaN(value) || math.IsInf(value, 0) || value == 0:
			fmt.Fprintf(w, "| %s | %s | ≤ %.3g | not measured | |\n", g.what, tool, g.bound)
			continue
		case value > g.bound:
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | ≤ %.3g | %.3g | %s |\n", g.what, tool, g.bound, value, verdict)
	}
	fmt.Fprintln(w)
}

// printSummary is what make bench shows at the end.
func printSummary(w io.Writer, r *results) {
	fmt.Fprintln(w)
	writeGoals(w, r)
	for _, e := range r.Errors {
		fmt.Fprintln(w, e)
	}
}
