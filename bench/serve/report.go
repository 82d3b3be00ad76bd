//go:build linux

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// goal is a bound that the project set itself on one comparison.
type goal struct {
	job, against string // against: the column; empty for a plain figure
	bound        float64
	least        bool // the bound is the least that is good enough, else the most
}

var goals = []goal{
	{jobRandom1, "nbdkit", 1, true},
	{jobRandom16, "nbdkit", 1, true},
	{jobCopy, "qemu", 1, true},
	{jobCopyDisk, "qemu", 1, true},
	{jobDevice, "losetup", 1, true},
	{jobCold, "chunk", 1.3, false},
	{jobFirst, "", 150, false},
}

// columns that are no tools, explained.
const legend = `` + "`nbdkit`" + ` is its memory plugin for warm reads and its file plugin for the whole disk; ` + "`qemu`" + ` is qemu-nbd on the
raw image, ` + "`losetup`" + ` a loop device over it; ` + "`chunk`" + ` is the time to read, decode and hash one chunk.`

func (r *results) write(w io.Writer, about string) {
	fmt.Fprintf(w, "%s\n\n%s\n\n", about, legend)
	fmt.Fprint(w, "| what | ratio to | goal | reached | |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		value := median(r.values[g.job]["holdfast"])
		if g.against != "" {
			value /= median(r.values[g.job][g.against])
		}
		sign, met := "≤", value <= g.bound
		if g.least {
			sign, met = "≥", value >= g.bound
		}
		verdict := "met"
		if !met {
			verdict = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | %s %.3g | %.3g | %s |\n", g.job, g.against, sign, g.bound, value, verdict)
	}
	over := float64(r.peak) / (1 << 20)
	verdict := "met"
	if over > 60 {
		verdict = "**missed**"
	}
	fmt.Fprintf(w, "| memory of the server beyond its cache, MiB | | ≤ 60 | %.0f | %s |\n\n", over, verdict)

	fmt.Fprint(w, "Medians, least–greatest in brackets:\n\n| what | tool | |\n|---|---|---|\n")
	for _, job := range r.order {
		tools := make([]string, 0, 4)
		for tool := range r.values[job] {
			tools = append(tools, tool)
		}
		slices.SortFunc(tools, func(a, b string) int { // ours first
			return cmp.Or(-cmp.Compare(ours(a), ours(b)), strings.Compare(a, b))
		})
		for _, tool := range tools {
			v := r.values[job][tool]
			fmt.Fprintf(w, "| %s | %s | %.4g (%.4g–%.4g) |\n", job, tool, median(v), slices.Min(v), slices.Max(v))
		}
	}
	fmt.Fprintln(w)
}

func ours(tool string) int {
	if tool == "holdfast" {
		return 1
	}
	return 0
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
