//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

const (
	jobList = "listing of the snapshots"
	jobNear = "backup of noise, loopback"
	jobFar  = "backup of noise, the long line"
)

// results are what was measured: seconds by job and way, and memory in bytes.
type results struct {
	machine    measure.Machine
	noise      int64
	snapshots  int
	order      []string
	seconds    map[string]map[string][]float64
	processor  map[string]map[string][]float64 // seconds too
	idle, busy int64
}

func (r *results) add(job, way string, seconds float64) {
	if r.seconds == nil {
		r.seconds = map[string]map[string][]float64{}
	}
	if r.seconds[job] == nil {
		r.seconds[job] = map[string][]float64{}
		r.order = append(r.order, job)
	}
	r.seconds[job][way] = append(r.seconds[job][way], seconds)
	fmt.Printf("%-34s %-10s %8.3f s\n", job, way, seconds)
}

// addCost notes the processor time too.
func (r *results) addCost(job, way string, used measure.Cost) {
	r.add(job, way, used.Seconds)
	if r.processor == nil {
		r.processor = map[string]map[string][]float64{}
	}
	if r.processor[job] == nil {
		r.processor[job] = map[string][]float64{}
	}
	r.processor[job][way] = append(r.processor[job][way], used.CPU)
}

func (r *results) median(job, way string) float64 { return measure.Median(r.seconds[job][way]) }

// The goals.
const (
	mostOver  = 1.25
	mostIdle  = 60  // MiB
	mostBusy  = 600 // MiB
	mostList  = 1.0 // seconds
	leastFull = 0.8 // of the line
)

func (r *results) write(w io.Writer) {
	fmt.Fprintf(w, "%s\n\n", r.machine)
	fmt.Fprint(w, "| what | goal | reached | |\n|---|---|---|---|\n")
	for _, from := range []string{"image", "directory"} {
		for _, job := range []string{jobFirst, jobSecond, jobRestore} {
			job += " of the " + from
			local, limit := r.median(job, "directory"), 0.0
			if len(r.seconds[job]["tls"]) > 0 {
				limit = r.median(job, "tls")
			}
			bound := max(mostOver*local, limit)
			fmt.Fprintf(w, "| %s, times the directory's | ≤ %.3g | %.3g | %s |\n", job, bound/local,
				r.median(job, "server")/local, verdict(r.median(job, "server") <= bound))
		}
	}
	const mib = 1 << 20
	fmt.Fprintf(w, "| memory of an idle server, MiB | ≤ %d | %d | %s |\n", mostIdle, r.idle/mib, verdict(r.idle <= mostIdle*mib))
	fmt.Fprintf(w, "| memory with %d backups at a time, MiB | ≤ %d | %d | %s |\n", sessionCount, mostBusy, r.busy/mib, verdict(r.busy <= mostBusy*mib))
	list := r.median(jobList, "server")
	fmt.Fprintf(w, "| listing of %d snapshots, seconds | < %.3g | %.3g | %s |\n", r.snapshots, mostList, list, verdict(list < mostList))
	share := float64(r.noise) / lineRate / r.median(jobFar, "server")
	fmt.Fprintf(w, "| share of 1 Gbit/s with 150 ms round trip | ≥ %.3g | %.3g | %s |\n\n", leastFull, share, verdict(share >= leastFull))

	fmt.Fprintf(w, "The share: %d bytes of noise at %.0f million bytes a second take %.2f s; the command took %.2f s, and %.2f s on\n"+
		"the loopback without the line. The line holds %.2f million bytes there and back.\n\n",
		r.noise, lineRate/1e6, float64(r.noise)/lineRate, r.median(jobFar, "server"), r.median(jobNear, "server"), lineRate*roundTrip.Seconds()/1e6)

	r.writeProcessor(w)
	fmt.Fprint(w, "Median in seconds, least–greatest in brackets:\n\n| job | directory | server | plain TLS |\n|---|---|---|---|\n")
	for _, job := range r.order {
		fmt.Fprintf(w, "| %s |", job)
		for _, way := range []string{"directory", "server", "tls"} {
			if v := r.seconds[job][way]; len(v) > 0 {
				fmt.Fprintf(w, " %.2f (%.2f–%.2f) |", measure.Median(v), slices.Min(v), slices.Max(v))
			} else {
				fmt.Fprint(w, " – |")
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// writeProcessor shows what both ends take of the cores that they share. No way
// through a server is faster than the directory's work and that of TLS, divided by
// the cores.
func (r *results) writeProcessor(w io.Writer) {
	fmt.Fprintf(w, "Processor time in seconds, median, client and server together. The last column is that of the directory and of plain TLS,\n"+
		"divided by %d cores: no server on the same machine is faster than that, in seconds of wall time.\n\n"+
		"| job | directory | server | plain TLS, both ends | bound |\n|---|---|---|---|---|\n", r.machine.Cores)
	for _, job := range r.order {
		of := r.processor[job]
		if len(of["tls"]) == 0 {
			continue
		}
		directory, tls := measure.Median(of["directory"]), measure.Median(of["tls"])
		fmt.Fprintf(w, "| %s | %.2f | %.2f | %.2f | %.2f |\n", job, directory, measure.Median(of["server"]), tls, (directory+tls)/float64(r.machine.Cores))
	}
	fmt.Fprintln(w)
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "**missed**"
}
