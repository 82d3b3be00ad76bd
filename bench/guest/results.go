//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
)

// results collects every measurement.
type results struct {
	guest               string
	writes              map[string][]writes
	backups             map[string]int
	first, unchanged    []float64 // seconds
	read                int64     // bytes, in unchanged backups, small files included
	guestRate, fileRate []float64 // MiB/s
}

func (r *results) add(kind string, w writes, backups int) {
	if r.writes == nil {
		r.writes, r.backups = map[string][]writes{}, map[string]int{}
	}
	r.writes[kind] = append(r.writes[kind], w)
	r.backups[kind] += backups
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	return (s[len(s)/2] + s[(len(s)-1)/2]) / 2
}

// of is the median over the rounds of one figure.
func (r *results) of(kind string, figure func(writes) float64) float64 {
	var v []float64
	for _, w := range r.writes[kind] {
		v = append(v, figure(w))
	}
	return median(v)
}

var figures = []struct {
	name string
	of   func(writes) float64
}{
	{"mean", func(w writes) float64 { return w.mean }},
	{"median", func(w writes) float64 { return w.p50 }},
	{"95 %", func(w writes) float64 { return w.p95 }},
	{"99 %", func(w writes) float64 { return w.p99 }},
	{"longest", func(w writes) float64 { return w.most }},
	{"writes", func(w writes) float64 { return float64(w.n) }},
}

func (r *results) write(w io.Writer, about string) {
	fmt.Fprintf(w, "%s\n\nThe guest: %s. %d backups in all in the column fast.\n\n", about, r.guest, r.backups[fast])
	mean, middle := figures[0].of, figures[1].of
	fmt.Fprint(w, "| what | goal | reached | |\n|---|---|---|---|\n")
	goal(w, "mean latency of a write with a slow repository, times that with a fast one", r.of(slow, mean)/r.of(fast, mean), 1.1)
	goal(w, "median latency of a write with a slow repository, times that without a backup", r.of(slow, middle)/r.of(none, middle), 1.1)
	goal(w, "unchanged sparse disk of 100 GiB, seconds", median(r.unchanged), 2)
	fmt.Fprintf(w, "\nWrites of 4 KiB in the guest, microseconds, medians of the rounds; mean and tail have "+
		"the first writes, which cost a copy, and whatever else the cores do:\n\n| | none | fast | slow |\n|---|---|---|---|\n")
	for _, f := range figures {
		fmt.Fprintf(w, "| %s | %.0f | %.0f | %.0f |\n", f.name, r.of(none, f.of), r.of(fast, f.of), r.of(slow, f.of))
	}
	fmt.Fprintf(w, "\nThe disk of 100 GiB: first %.2f s, unchanged %.2f s (%.2f–%.2f), of which nothing was read of the disk: "+
		"%d bytes in all, the machine's description. New data: %.0f MiB/s over QEMU, which takes its share of the same cores, %.0f MiB/s from the file.\n",
		median(r.first), median(r.unchanged), slices.Min(r.unchanged), slices.Max(r.unchanged), r.read, median(r.guestRate), median(r.fileRate))
}

func goal(w io.Writer, what string, value, most float64) {
	verdict := "met"
	if value > most {
		verdict = "**missed**"
	}
	fmt.Fprintf(w, "| %s | ≤ %.3g | %.3g | %s |\n", what, most, value, verdict)
}
