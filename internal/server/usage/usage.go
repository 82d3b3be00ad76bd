// Package usage remembers how full datastores were during the last month, and
// says when they will be full.
//
// # File
//
// One file a datastore, its name and ".json": {"start", "step", "values"}, with
// one value for each half hour, the part that was in use, or null where nobody
// looked. start is the time of the first, in seconds since 1970.
//
// # Estimate
//
// A straight line through all values by least squares, of at least seven; it is
// full where the line reaches 1. A line that does not rise reaches it in the past,
// or never, which is 0: so PBS says that there is nothing to fear.
//
// # Source
//
// proxmox-backup: src/api2/status/mod.rs, src/tools/statistics.rs.
package usage

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	step  = 1800 // seconds
	keep  = 30 * 24 * 3600 / step
	least = 7 // values for an estimate
)

// History is how full a datastore was.
type History struct {
	Start  int64      `json:"start"`
	Step   int64      `json:"step"`
	Values []*float64 `json:"values"`
}

// Record is the histories of datastores in a directory. It is safe for concurrent
// use.
type Record struct {
	dir string
	mu  sync.Mutex
}

// Open opens a directory, which it makes if need be.
func Open(dir string) (*Record, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("usage of datastores: %w", err)
	}
	return &Record{dir: dir}, nil
}

func (r *Record) path(store string) string { return filepath.Join(r.dir, store+".json") }

// Read returns the history of a datastore; one without values if there is none, or
// if it cannot be understood.
func (r *Record) Read(store string) (History, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.read(store)
}

func (r *Record) read(store string) (History, error) {
	text, err := os.ReadFile(r.path(store))
	if errors.Is(err, fs.ErrNotExist) {
		return History{Step: step}, nil
	}
	if err != nil {
		return History{}, fmt.Errorf("usage of datastore %s: %w", store, err)
	}
	var h History
	if json.Unmarshal(text, &h) != nil || h.Step != step || len(h.Values) > keep {
		return History{Step: step}, nil
	}
	return h, nil
}

// Add notes how full a datastore is.
func (r *Record) Add(store string, now time.Time, used, total uint64) error {
	if total == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h, err := r.read(store)
	if err != nil {
		return err
	}
	h.add(now.Unix(), float64(used)/float64(total))
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	tmp := r.path(store) + ".tmp"
	if err = os.WriteFile(tmp, text, 0o644); err == nil {
		err = os.Rename(tmp, r.path(store))
	}
	if err != nil {
		return fmt.Errorf("usage of datastore %s: %w", store, err)
	}
	return nil
}

// add puts a value into its half hour, and drops what is older than a month.
func (h *History) add(now int64, value float64) {
	at := now - now%step
	if len(h.Values) == 0 || at < h.Start || at-h.Start >= 2*keep*step {
		h.Start, h.Values = at, nil // the first one, or the clock was wrong
	}
	i := int((at - h.Start) / step)
	for len(h.Values) <= i {
		h.Values = append(h.Values, nil)
	}
	h.Values[i] = &value
	if drop := len(h.Values) - keep; drop > 0 {
		h.Start += int64(drop) * step
		h.Values = h.Values[drop:]
	}
}

// Full returns when the datastore will be full, in seconds since 1970. It is false
// while there are too few values.
func (h History) Full() (int64, bool) {
	var n, sumX, sumY float64
	each := func(f func(x, y float64)) {
		for i, v := range h.Values {
			if v != nil {
				f(float64(h.Start+int64(i)*h.Step), *v)
			}
		}
	}
	each(func(x, y float64) { n++; sumX += x; sumY += y })
	if n < least {
		return 0, false
	}
	meanX, meanY := sumX/n, sumY/n
	var sxx, sxy float64
	each(func(x, y float64) { sxx += (x - meanX) * (x - meanX); sxy += (x - meanX) * (y - meanY) })
	slope := sxy / sxx
	if slope == 0 {
		return 0, true
	}
	full := math.Floor(meanX + (1-meanY)/slope)
	const far = 1 << 53 // what JSON numbers hold exactly
	return int64(max(-far, min(far, full))), true
}

// Forget removes the history of a datastore.
func (r *Record) Forget(store string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := os.Remove(r.path(store)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
