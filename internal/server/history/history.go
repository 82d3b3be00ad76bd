// Package history remembers figures of the last hours, days and years, as graphs want
// them: the nearer, the finer.
//
// # What is kept
//
//	for each of   so many   which is
//	1 minute      1490      a day
//	30 minutes    1440      a month
//	6 hours       1460      a year
//	7 days        570       ten years
//
// The average and the greatest of what came in such a span; of a span in which nothing
// came, nothing.
//
// # Files
//
// One file a series, its name and ".json", written by [Record.Save]: what came since is
// lost with the process. One that cannot be understood counts as empty.
//
//	{"columns":["used",..],"archives":[{"start":SECONDS,"spans":[{"n":COUNT,"sum":[..],"max":[..]},null,..]},..]}
//
// # Memory
//
// 5000 spans of 2 × 8 bytes for each column of each series.
//
// # Source
//
// proxmox-backup: src/rrd_cache.rs (the spans); pbs-api-types (the names of frames).
package history

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// grains are how fine it is kept, and for how long.
var grains = [...]struct{ step, keep int64 }{{60, 1490}, {1800, 1440}, {6 * 3600, 1460}, {7 * 24 * 3600, 570}}

// Frame is how far back somebody looks.
type Frame string

// The frames.
const (
	Hour   Frame = "hour"
	Day    Frame = "day"
	Week   Frame = "week"
	Month  Frame = "month"
	Year   Frame = "year"
	Decade Frame = "decade"
)

// frames are the grain of a frame and how many spans of that.
var frames = map[Frame]struct {
	grain int
	spans int64
}{Hour: {0, 70}, Day: {0, 1490}, Week: {1, 350}, Month: {1, 1440}, Year: {2, 1460}, Decade: {3, 570}}

// span is what came in a span of time; nil: nothing.
type span struct {
	N   int64     `json:"n"`
	Sum []float64 `json:"sum"`
	Max []float64 `json:"max"`
}

// archive is the spans of one grain, without a gap.
type archive struct {
	Start int64   `json:"start"` // of the first, seconds since 1970
	Spans []*span `json:"spans"`
}

// series is the history of something.
type series struct {
	Columns  []string              `json:"columns"` // sorted
	Archives [len(grains)]*archive `json:"archives"`
}

// Record is the series in a directory. It is safe for concurrent use.
type Record struct {
	dir string

	mu   sync.Mutex
	open map[string]*series
}

// Open opens a directory, which it makes if need be.
func Open(dir string) (*Record, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return &Record{dir: dir, open: map[string]*series{}}, nil
}

func (r *Record) path(name string) string { return filepath.Join(r.dir, name+".json") }

// load returns a series. r.mu is held.
func (r *Record) load(name string) (*series, error) {
	if s := r.open[name]; s != nil {
		return s, nil
	}
	text, err := os.ReadFile(r.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("history of %s: %w", name, err)
	}
	s := new(series)
	if err != nil || json.Unmarshal(text, s) != nil || !s.sound() {
		s = new(series)
	}
	r.open[name] = s
	return s, nil
}

// sound reports whether a series from a file can be worked with.
func (s *series) sound() bool {
	for i, a := range s.Archives {
		if a == nil {
			continue
		}
		if int64(len(a.Spans)) > grains[i].keep || a.Start%grains[i].step != 0 {
			return false
		}
		for _, p := range a.Spans {
			if p != nil && (p.N < 1 || len(p.Sum) != len(s.Columns) || len(p.Max) != len(s.Columns)) {
				return false
			}
		}
	}
	return slices.IsSorted(s.Columns)
}

// Add notes figures. A series whose columns are others from now on begins anew.
func (r *Record) Add(name string, now time.Time, figures map[string]float64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.load(name)
	if err != nil {
		return err
	}
	columns := slices.Sorted(maps.Keys(figures))
	if !slices.Equal(columns, s.Columns) {
		*s = series{Columns: columns}
	}
	values := make([]float64, len(columns))
	for i, c := range columns {
		values[i] = figures[c]
	}
	for i := range s.Archives {
		if s.Archives[i] == nil {
			s.Archives[i] = new(archive)
		}
		s.Archives[i].add(now.Unix(), values, grains[i].step, grains[i].keep)
	}
	return nil
}

// add puts values into their span, and drops spans that are too old.
func (a *archive) add(now int64, values []float64, step, keep int64) {
	at := now - now%step
	if len(a.Spans) == 0 || at < a.Start || at-a.Start >= 2*keep*step {
		a.Start, a.Spans = at, nil // the first one, or the clock was wrong
	}
	i := int((at - a.Start) / step)
	for len(a.Spans) <= i {
		a.Spans = append(a.Spans, nil)
	}
	if p := a.Spans[i]; p == nil {
		a.Spans[i] = &span{1, slices.Clone(values), slices.Clone(values)}
	} else {
		p.N++
		for j, v := range values {
			p.Sum[j] += v
			p.Max[j] = max(p.Max[j], v)
		}
	}
	if drop := int64(len(a.Spans)) - keep; drop > 0 {
		a.Start += drop * step
		a.Spans = slices.Clone(a.Spans[drop:])
	}
}

// Point is the figures of a span; none of one in which nothing came.
type Point struct {
	Time    int64 // its begin, seconds since 1970
	Figures map[string]float64
}

// Read returns the averages of a series in a frame, or the greatest figures.
func (r *Record) Read(name string, f Frame, greatest bool) ([]Point, error) {
	want, ok := frames[f]
	if !ok {
		return nil, fmt.Errorf("there is no frame %q", f)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, err := r.load(name)
	if err != nil || s.Archives[want.grain] == nil {
		return nil, err
	}
	a := s.Archives[want.grain]
	first := max(0, len(a.Spans)-int(want.spans))
	var points []Point
	for i, p := range a.Spans[first:] {
		point := Point{Time: a.Start + int64(first+i)*grains[want.grain].step}
		if p != nil {
			point.Figures = map[string]float64{}
			for j, c := range s.Columns {
				point.Figures[c] = p.Sum[j] / float64(p.N)
				if greatest {
					point.Figures[c] = p.Max[j]
				}
			}
		}
		points = append(points, point)
	}
	return points, nil
}

// Save writes all series.
func (r *Record) Save() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for name, s := range r.open {
		text, err := json.Marshal(s)
		if err == nil {
			err = os.WriteFile(r.path(name)+".tmp", text, 0o644)
		}
		if err == nil {
			err = os.Rename(r.path(name)+".tmp", r.path(name))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("history of %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Forget removes a series.
func (r *Record) Forget(name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, name)
	if err := os.Remove(r.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
