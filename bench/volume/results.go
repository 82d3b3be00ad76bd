//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// results are what was measured, by way.
type results struct {
	order []string
	costs map[string][]measure.Cost
}

func (r *results) add(name string, c measure.Cost) {
	if r.costs == nil {
		r.costs = map[string][]measure.Cost{}
	}
	if r.costs[name] == nil {
		r.order = append(r.order, name)
	}
	r.costs[name] = append(r.costs[name], c)
	fmt.Printf("%-10s %8.3f s, %8.3f s of CPU\n", name, c.Seconds, c.CPU)
}

func (r *results) of(name string, figure func(measure.Cost) float64) (v []float64) {
	for _, c := range r.costs[name] {
		v = append(v, figure(c))
	}
	return v
}

func seconds(c measure.Cost) float64 { return c.Seconds }

func (r *results) text(m measure.Machine) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d rounds.\n\n", m, len(r.costs["file"]))
	b.WriteString("| what | goal | reached | |\n|---|---|---|---|\n")
	file := measure.Median(r.of("file", seconds))
	for _, g := range []struct {
		what         string
		value, bound float64
	}{
		{"refill of a volume in a file after a day, times restore in place to a file", measure.Median(r.of("inside", seconds)) / file, 1.2},
		{"refill of a volume on a loop device, times the same", measure.Median(r.of("volume", seconds)) / file, 1.2},
		{"ensure of a volume that matches, ms, the whole process", 1000 * measure.Median(r.of("ensure", seconds)), 50},
	} {
		verdict := "met"
		if g.value > g.bound {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %s | ≤ %.3g | %.3g | %s |\n", g.what, g.bound, g.value, verdict)
	}
	b.WriteString("\nSeconds, medians, least–greatest in brackets:\n\n| way | wall | CPU |\n|---|---|---|\n")
	for _, name := range r.order {
		wall, cpu := r.of(name, seconds), r.of(name, func(c measure.Cost) float64 { return c.CPU })
		fmt.Fprintf(&b, "| %s | %.3f (%.3f–%.3f) | %.3f |\n", name, measure.Median(slices.Clone(wall)), slices.Min(wall), slices.Max(wall), measure.Median(cpu))
	}
	return b.String()
}
