package cli

import (
	"fmt"
	"math"
	"strconv"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/meter"
	"github.com/holdfast-backup/holdfast/internal/ui"
)

// openBuckets are those that a command has opened.
type openBuckets struct {
	mu   sync.Mutex
	list []*connect.Store
}

func (o *openBuckets) add(s *connect.Store) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, s)
}

// last is the one that was opened last.
func (o *openBuckets) last() *connect.Store {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list[len(o.list)-1]
}

// traffic is that of all of them.
func (o *openBuckets) traffic() (sum connect.Traffic, some bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.list {
		sum = sum.Plus(s.Traffic())
	}
	return sum, len(o.list) > 0
}

func (o *openBuckets) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.list {
		_ = s.Close() // connections that nobody uses any more
	}
	o.list = nil
}

// prices are those of the environment, or usual ones, and what they are in.
func (a *app) prices() (p meter.Prices, unit string, err error) {
	text := a.getenv("HOLDFAST_S3_PRICES")
	if text == "" {
		return meter.Usual(), "US dollars at Amazon's prices", nil
	}
	if p, err = meter.ParsePrices(text); err != nil {
		return p, "", usage(fmt.Errorf("HOLDFAST_S3_PRICES: %w", err))
	}
	return p, "by HOLDFAST_S3_PRICES", nil
}

// trafficJSON is what buckets were asked.
type trafficJSON struct {
	Requests map[string]int64 `json:"requests"`
	Up       int64            `json:"bytes-up"`
	Down     int64            `json:"bytes-down"`
	Busy     int64            `json:"busy"`
	Failed   int64            `json:"failed"`
	Retries  int64            `json:"retries"`
	Hits     int64            `json:"cache-hits"`
	HitBytes int64            `json:"cache-bytes"`
	Cost     float64          `json:"cost"`
}

func trafficOf(t connect.Traffic, p meter.Prices) trafficJSON {
	j := trafficJSON{
		Requests: map[string]int64{}, Up: t.Up, Down: t.Down, Busy: t.Busy, Failed: t.Failed, Retries: t.Retries,
		Hits: t.Hits, HitBytes: t.HitBytes, Cost: p.Cost(t.Counts),
	}
	for k, n := range t.Requests {
		j.Requests[meter.Kind(k).String()] = n
	}
	return j
}

// trafficText is one line of it.
func trafficText(t connect.Traffic, p meter.Prices, unit string) string {
	var kinds []string
	for k, n := range t.Requests {
		if n > 0 {
			kinds = append(kinds, fmt.Sprintf("%d %s", n, meter.Kind(k)))
		}
	}
	text := plural(t.Total(), "request")
	if len(kinds) > 0 {
		text += " (" + join(kinds) + ")"
	}
	text += fmt.Sprintf(", %s up, %s down", ui.Rough(t.Up), ui.Rough(t.Down))
	if t.Hits > 0 {
		text += fmt.Sprintf(", %s from the cache", ui.Rough(t.HitBytes))
	}
	if t.Retries > 0 {
		text += fmt.Sprintf(", %d tried again", t.Retries)
	}
	return text + fmt.Sprintf("; about %s %s", twoDigits(p.Cost(t.Counts)), unit)
}

// twoDigits writes a number with at least two digits that count, and two behind the point.
func twoDigits(v float64) string {
	digits := 2
	if v > 0 {
		digits = max(digits, 1-int(math.Floor(math.Log10(v))))
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// tellTraffic says in the end what was asked of buckets, if one wants to know.
func (a *app) tellTraffic() {
	t, some := a.buckets.traffic()
	if !a.showRequests || !some {
		return
	}
	p, unit, err := a.prices()
	if err != nil {
		a.warn("%v", err)
		return
	}
	if a.format.IsJSON() {
		_ = ui.JSON.WriteJSON(a.Stderr, map[string]any{"traffic": trafficOf(t, p)})
		return
	}
	a.say("%s", trafficText(t, p, unit))
}
