//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-backup/holdfast/bench/page"
)

const newPage = `# Benchmarks

Holdfast beside other programs on one disk image, all in the same run on the same machine. Read the ratios: absolute times
belong to the machine. How it is measured and what the image holds stands in the package comment of bench/main.go;
` + "`make bench-peers bench`" + ` repeats it.

`

// writePage writes the generated part; what people wrote around it stays.
func writePage(name string, res *results) error {
	part := page.Part{Name: "results", Make: "bench"}
	if _, err := os.Stat(name); os.IsNotExist(err) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(newPage+part.Start()+"\n"+part.End()+"\n"), 0o644)); err != nil {
			return err
		}
	}
	var b strings.Builder
	writeResults(&b, res)
	return page.Replace(name, part, b.String())
}

func writeResults(w io.Writer, res *results) {
	fmt.Fprintf(w, "%s\n\n", res.Machine)
	fmt.Fprintln(w, "| tool | version | set-up |\n|---|---|---|")
	for _, t := range res.Tools {
		fmt.Fprintf(w, "| %s | %s | %s |\n", t.Name, t.Version, t.About)
	}
	fmt.Fprintln(w)
	writeGoals(w, res)
	for _, cache := range []string{"hot", "cold"} {
		if res.figures(cache, "holdfast", jobFirst).n > 0 {
			writeTimes(w, res, cache)
			writeCosts(w, res, cache)
		}
	}
	writeSizes(w, res)
	writeExtras(w, res)
	if len(res.Errors) > 0 {
		fmt.Fprint(w, "### What failed\n\n")
		for _, e := range res.Errors {
			fmt.Fprintf(w, "- %s\n", strings.ReplaceAll(e, "\n", " "))
		}
		fmt.Fprintln(w)
	}
}

func writeTimes(w io.Writer, res *results, cache string) {
	fmt.Fprintf(w, "### Wall time, %s cache\n\nMedian of %d rounds in seconds, least–greatest in brackets.\n\n", cache,
		res.figures(cache, "holdfast", jobFirst).n)
	table(w, res, func(tool, job string) string {
		f := res.figures(cache, tool, job)
		if f.n == 0 {
			return ""
		}
		return fmt.Sprintf("%.2f (%.2f–%.2f)", f.median, f.least, f.worst)
	})
}

func writeCosts(w io.Writer, res *results, cache string) {
	fmt.Fprintf(w, "### CPU seconds (median) and peak RSS in MiB (greatest), %s cache\n\n", cache)
	table(w, res, func(tool, job string) string {
		f := res.figures(cache, tool, job)
		if f.n == 0 {
			return ""
		}
		return fmt.Sprintf("%.1f · %d", f.cpu, f.rss/mib)
	})
	fmt.Fprintf(w, "A process that does nothing shows %d MiB here: the kernel counts from the process that started it.\n\n", res.Machine.Floor/mib)
}

// table prints one row a job and one column a tool; rows without any figure
// are left out.
func table(w io.Writer, res *results, cell func(tool, job string) string) {
	fmt.Fprint(w, "| job |")
	for _, t := range res.Tools {
		fmt.Fprintf(w, " %s |", t.Name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---|", len(res.Tools)))
	for _, j := range jobs {
		row, some := "", false
		for _, t := range res.Tools {
			c := cell(t.Name, j)
			some = some || c != ""
			if c == "" {
				c = "–"
			}
			row += " " + c + " |"
		}
		if some {
			fmt.Fprintf(w, "| %s |%s\n", j, row)
		}
	}
	fmt.Fprintln(w)
}

func writeSizes(w io.Writer, res *results) {
	fmt.Fprint(w, "### Repository, MiB\n\nSum of the files' sizes; in brackets what they and their directories occupy.\n\n")
	table(w, res, func(tool, job string) string {
		var found *size
		for i, s := range res.Sizes {
			if s.Tool == tool && s.Job == job {
				found = &res.Sizes[i]
			}
		}
		if found == nil {
			return ""
		}
		return fmt.Sprintf("%d (%d)", found.Bytes/mib, found.Disk/mib)
	})
}

func writeExtras(w io.Writer, res *results) {
	if len(res.Sparse) > 0 {
		fmt.Fprintf(w, "### A sparse image of 1 TiB with %.0f MiB of data\n\n| job | seconds | peak RSS, MiB |\n|---|---|---|\n", float64(res.Data)/mib)
		for _, s := range res.Sparse {
			fmt.Fprintf(w, "| %s | %.1f | %d |\n", s.Job, s.Seconds, s.RSS/mib)
		}
		fmt.Fprintln(w)
	}
	for _, cache := range []string{"cold", "hot"} {
		if f := summarize(res.Listing, func(s sample) bool { return s.Cache == cache }); f.n > 0 {
			fmt.Fprintf(w, "Listing %d snapshots, %s cache: %.2f s (%.2f–%.2f), %d MiB.\n\n", res.Listed, cache, f.median, f.least, f.worst, f.rss/mib)
		}
	}
}
