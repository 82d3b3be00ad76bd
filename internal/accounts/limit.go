package accounts

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// WaitError refuses an attempt because too many have failed; it wraps ErrRefused.
type WaitError struct{ For time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("refused: too many failed attempts, wait %v", e.For.Round(time.Second))
}

// Unwrap implements errors.Unwrap.
func (e *WaitError) Unwrap() error { return ErrRefused }

const (
	quiet      = 15 * time.Minute // after which failures are forgotten
	longest    = 5 * time.Minute  // that somebody has to wait
	maxTracked = 20_000           // names that failures are kept of
)

// limiter makes those wait who fail again and again. Its memory is bounded: when
// it is full, who failed longest ago is forgotten.
type limiter struct {
	mu    sync.Mutex
	names map[name]failures
}

// name is whose failures are counted, and how many are free.
type name struct {
	who  string
	free int
}

type failures struct {
	n    int
	last time.Time
	wait time.Duration // from last on
}

// wait returns nil or how long the next attempt under any of the names has to
// wait.
func (l *limiter) wait(now time.Time, all ...name) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var most time.Duration
	for _, n := range all {
		if f, ok := l.names[n]; ok {
			most = max(most, f.wait-now.Sub(f.last))
		}
	}
	if most > 0 {
		return &WaitError{most}
	}
	return nil
}

// failed counts a failure under each of the names.
func (l *limiter) failed(now time.Time, all ...name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[name]failures{}
	}
	for _, n := range all {
		f := l.names[n]
		if now.Sub(f.last) > quiet {
			f = failures{}
		}
		f.n, f.last = f.n+1, now
		if over := f.n - n.free; over >= 0 {
			f.wait = min(time.Second<<min(over, 20), longest)
		}
		l.names[n] = f
	}
	l.shrink(now)
}

// good forgets the failures under the names.
func (l *limiter) good(all ...name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range all {
		delete(l.names, n)
	}
}

// shrink keeps the number of names below its bound.
func (l *limiter) shrink(now time.Time) {
	if len(l.names) <= maxTracked {
		return
	}
	oldest := now
	for n, f := range l.names {
		if now.Sub(f.last) > quiet {
			delete(l.names, n)
		} else if f.last.Before(oldest) {
			oldest = f.last
		}
	}
	// Half of the time span, so that this walk is rare.
	for n, f := range l.names {
		if len(l.names) > maxTracked/2 && f.last.Before(oldest.Add(now.Sub(oldest)/2+1)) {
			delete(l.names, n)
		}
	}
	for n := range l.names { // all at one time: any
		if len(l.names) <= maxTracked {
			break
		}
		delete(l.names, n)
	}
}

// network is what counts of an address.
func network(peer string) string {
	a, err := netip.ParseAddr(peer)
	if err != nil {
		return peer
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
