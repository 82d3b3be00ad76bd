package faulty

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Plan says how often what goes wrong, as a share between 0 and 1 of the calls that
// it can happen to. The zero value is a store without faults.
type Plan struct {
	Busy  float64       // a storm begins
	Storm int           // calls that it refuses
	Lost  float64       // the call gets lost
	Mute  float64       // its answer gets lost
	Twice float64       // a Put, Delete or Retain comes again, later
	Cut   float64       // the body of a Get ends early
	Stale float64       // a List is as things were
	Lag   int           // changes that a stale list may not know of
	Delay time.Duration // that a call takes at most
}

// Rough is a plan with all that a store may do by the rules of package objstore,
// so often that every path is taken.
var Rough = Plan{Busy: 0.02, Storm: 4, Lost: 0.05, Mute: 0.05, Twice: 0.1, Cut: 0.1}

// Counts are the faults that there were.
type Counts struct{ Busy, Lost, Mute, Twice, Cut, Stale int }

// Dice draw faults. They are safe for concurrent use.
type Dice struct {
	mu     sync.Mutex
	plan   Plan
	rand   *rand.Rand
	storm  int // calls still to be refused
	late   []func(context.Context)
	counts Counts
}

// NewDice returns dice for a plan.
func NewDice(seed uint64, p Plan) *Dice { return &Dice{plan: p, rand: rand.New(rand.NewPCG(seed, 0))} }

// Counts are the faults that there were so far.
func (d *Dice) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Calm ends the faults: what is late is delivered, and from then on nothing goes wrong.
func (d *Dice) Calm(ctx context.Context) {
	d.mu.Lock()
	late := d.late
	d.plan, d.storm, d.late = Plan{}, 0, nil
	d.mu.Unlock()
	for _, deliver := range late {
		deliver(ctx)
	}
}

// Fate is what happens to one call.
type Fate struct {
	Busy, Lost, Mute, Twice bool
	Before, After           time.Duration
	Late                    func(context.Context) // of an earlier call, to be delivered before this one
}

// Call draws the fate of a call. One that changes something may come twice.
func (d *Dice) Call(changes bool) (f Fate) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f.Before, f.After = d.time(), d.time()
	if n := len(d.late); n > 0 && d.rand.IntN(4) == 0 {
		i := d.rand.IntN(n)
		f.Late = d.late[i]
		d.late = slices.Delete(d.late, i, i+1)
	}
	switch {
	case d.storm > 0:
		d.storm--
		d.counts.Busy++
		f.Busy = true
	case d.chance(d.plan.Busy, &d.counts.Busy):
		d.storm = d.plan.Storm - 1
		f.Busy = true
	case d.chance(d.plan.Lost, &d.counts.Lost):
		f.Lost = true
	default:
		f.Mute = d.chance(d.plan.Mute, &d.counts.Mute)
		f.Twice = changes && d.chance(d.plan.Twice, &d.counts.Twice)
	}
	return f
}

// time draws how long half of a call takes.
func (d *Dice) time() time.Duration {
	if d.plan.Delay <= 0 {
		return 0
	}
	return time.Duration(d.rand.Int64N(int64(d.plan.Delay/2) + 1))
}

// chance draws whether something happens, and counts it.
func (d *Dice) chance(share float64, count *int) bool {
	if share <= 0 || d.rand.Float64() >= share {
		return false
	}
	*count++
	return true
}

// Later keeps what is to be delivered before some later call.
func (d *Dice) Later(f func(context.Context)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = append(d.late, f)
}

// Cut draws whether a body of so many bytes ends early, and after how many.
func (d *Dice) Cut(size int64) (left int64, ends bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if size <= 0 || !d.chance(d.plan.Cut, &d.counts.Cut) {
		return 0, false
	}
	return d.rand.Int64N(size), true
}

// Stale draws how many of the last n changes a list does not know of.
func (d *Dice) Stale(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n == 0 || !d.chance(d.plan.Stale, &d.counts.Stale) {
		return 0
	}
	return 1 + d.rand.IntN(n)
}

// Lag is how many changes a list may not know of.
func (d *Dice) Lag() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.plan.Lag
}
