//go:build linux

package main

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// results is everything that was measured; results.json holds it.
type results struct {
	path string

	Machine measure.Machine  `json:"machine"`
	Tools   []toolFacts      `json:"tools"`
	Entries int              `json:"entries"` // of the tree
	Bytes   int64            `json:"bytes"`   // of its files
	Samples []sample         `json:"samples"`
	Sizes   map[string]int64 `json:"sizes"` // of the repository after the first backup, by tool
	Files   int              `json:"files,omitempty"`
	Many    []sample         `json:"many,omitempty"`
	Errors  []string         `json:"errors,omitempty"`
}

type toolFacts struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	About   string `json:"about"`
	Peer    bool   `json:"peer"`
}

type sample struct {
	Round int    `json:"round"`
	Tool  string `json:"tool"`
	Job   string `json:"job"`
	measure.Cost
}

func (r *results) save() error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.path, b, 0o644)
}

func (r *results) load() error {
	b, err := os.ReadFile(r.path)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, r)
}

// weigh notes the sum of the files' sizes of a repository.
func (r *results) weigh(tool, root string) {
	var sum int64
	_ = filepath.WalkDir(root, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := e.Info(); err == nil && e.Type().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	if r.Sizes == nil {
		r.Sizes = map[string]int64{}
	}
	r.Sizes[tool] = sum
}

// figures are what a set of samples comes to.
type figures struct {
	n                    int
	median, least, worst float64 // seconds of wall time
	cpu                  float64 // median, seconds
	rss                  int64   // greatest, bytes
}

func (r *results) figures(tool, job string) (f figures) {
	var wall, cpu []float64
	for _, s := range r.Samples {
		if s.Tool == tool && s.Job == job {
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

// fastest is the least median among the tools.
func (r *results) fastest(job string, tools ...string) (tool string, f figures) {
	for _, t := range tools {
		if g := r.figures(t, job); g.n > 0 && (f.n == 0 || g.median < f.median) {
			tool, f = t, g
		}
	}
	return tool, f
}

func (r *results) peers() (names []string) {
	for _, t := range r.Tools {
		if t.Peer {
			names = append(names, t.Name)
		}
	}
	return names
}
