//go:build linux

package main

import (
	"encoding/json"
	"os"
	"slices"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// results is everything that was measured; results.json holds it.
type results struct {
	path string

	Machine measure.Machine `json:"machine"`
	Tools   []toolFacts     `json:"tools"`
	Samples []sample        `json:"samples"`
	Sizes   []size          `json:"sizes"`
	Sparse  []sample        `json:"sparse,omitempty"`  // the 1 TiB image
	Listing []sample        `json:"listing,omitempty"` // many snapshots
	Listed  int             `json:"listed,omitempty"`
	Data    int64           `json:"sparse-data,omitempty"` // bytes in the 1 TiB image
	Errors  []string        `json:"errors,omitempty"`
}

type toolFacts struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	About   string `json:"about"`
	Dedup   bool   `json:"dedup"`
}

type sample struct {
	Cache string `json:"cache"`
	Round int    `json:"round"`
	Tool  string `json:"tool"`
	Job   string `json:"job"`
	measure.Cost
}

// size is a repository's after a job.
type size struct {
	Tool  string `json:"tool"`
	Job   string `json:"job"`
	Bytes int64  `json:"bytes"` // sum of the files' sizes
	Disk  int64  `json:"disk"`  // occupied, directories included
}

func (r *results) save() error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	tmp := r.path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, r.path)
}

func (r *results) load() error {
	b, err := os.ReadFile(r.path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, r)
}

// figures are what a set of samples comes to.
type figures struct {
	n                    int
	median, least, worst float64 // seconds of wall time
	cpu                  float64 // median, seconds
	rss                  int64   // greatest, bytes
}

func (r *results) figures(cache, tool, job string) figures {
	return summarize(r.Samples, func(s sample) bool { return s.Cache == cache && s.Tool == tool && s.Job == job })
}

func summarize(all []sample, pick func(sample) bool) (f figures) {
	var wall, cpu []float64
	for _, s := range all {
		if pick(s) {
			wall, cpu = append(wall, s.Seconds), append(cpu, s.CPU)
			f.rss = max(f.rss, s.RSS)
		}
	}
	if f.n = len(wall); f.n == 0 {
		return f
	}
	f.median, f.cpu = measure.Median(wall), measure.Median(cpu)
	f.least, f.worst = slices.Min(wall), slices.Max(wall)
	return f
}

// fastest returns the yardstick: the least median among the deduplicating
// peers, borg with the fixed chunks that its manual advises for disk images
// among them.
func (r *results) fastest(cache, job string) (tool string, f figures) {
	for _, t := range r.Tools {
		if !t.Dedup {
			continue
		}
		if g := r.figures(cache, t.Name, job); g.n > 0 && (f.n == 0 || g.median < f.median) {
			tool, f = t.Name, g
		}
	}
	return tool, f
}
