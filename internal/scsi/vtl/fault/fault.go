// Package fault makes units fail: chosen commands are answered with a sense or a
// status, get lost on the way or back, time out, or are carried out twice; and
// the power goes.
//
// A [Rule] says which commands, which of them, and how. The loop that fails every
// command of something once looks so:
//
//	for n := 1; ; n++ {
//		rule := &fault.Rule{N: n, Lost: true}
//		work(target.Connect(fault.New(unit, rule)))
//		if !rule.Fired() {
//			break
//		}
//	}
//
// With [Random], faults come by chance, the same ones for the same seed.
package fault

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

// ErrInjected is wrapped by the transport errors that come from rules.
var ErrInjected = errors.New("a fault on purpose")

// Rule describes the commands that fail and how. Exactly one of Sense, Status,
// Lost, Timeout and Twice says how; Hook may stand alone.
type Rule struct {
	Ops []scsi.Opcode // none: all
	N   int           // the first matching command that fails, from 1; 0 means 1
	// Times is how many matching commands fail from the N-th on: 0 means one, a
	// negative number all of them.
	Times int

	Sense   *scsi.Sense // what the unit says
	Status  scsi.Status // what it answers without a sense
	Lost    bool        // the command or its answer gets lost
	Timeout bool        // it does not end in its time
	// Done lets the unit carry the command out all the same, and throws its
	// answer away.
	Done bool
	// Twice carries the command out twice and gives the second answer, as a
	// transport does that repeats commands.
	Twice bool
	// Hook runs when the rule fires, after the command where it is Done. It may cut
	// the power.
	Hook func()

	seen  int // matching commands; guarded by the unit's mu
	fired int
	mu    *sync.Mutex
}

// Fired reports whether the rule made a command fail.
func (r *Rule) Fired() bool {
	if r.mu == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fired > 0
}

func (r *Rule) matches(op scsi.Opcode) bool {
	if len(r.Ops) > 0 && !slices.Contains(r.Ops, op) {
		return false
	}
	r.seen++
	first := max(r.N, 1)
	if r.seen < first || r.Times >= 0 && r.seen >= first+max(r.Times, 1) {
		return false
	}
	r.fired++
	return true
}

// Unit is a unit whose commands fail by rules.
type Unit struct {
	base target.Unit

	mu     sync.Mutex // guards what follows, and the state of the rules
	rules  []*Rule
	random *chance
	counts map[scsi.Opcode]int
}

var _ target.Unit = (*Unit)(nil)

// New decorates a unit. A rule must not be used by two units.
func New(base target.Unit, rules ...*Rule) *Unit {
	u := &Unit{base: base, counts: map[scsi.Opcode]int{}}
	for _, r := range rules {
		u.Add(r)
	}
	return u
}

// Add makes one more rule hold from now on.
func (u *Unit) Add(r *Rule) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r.mu = &u.mu
	u.rules = append(u.rules, r)
}

// Count is the number of commands so far with one of these opcodes, or of all.
func (u *Unit) Count(ops ...scsi.Opcode) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for op, k := range u.counts {
		if len(ops) == 0 || slices.Contains(ops, op) {
			n += k
		}
	}
	return n
}

// chance is a source of faults.
type chance struct {
	rng  *rand.Rand
	rate float64
	pick []Rule
}

// Random lets commands fail by chance, each with a probability of rate, in one of
// the ways of the rules, whose Ops count and whose N and Times do not.
func (u *Unit) Random(seed uint64, rate float64, ways ...Rule) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.random = &chance{rand.New(rand.NewPCG(seed, seed)), rate, ways}
}

func (c *chance) rule(op scsi.Opcode) *Rule {
	if c == nil || len(c.pick) == 0 || c.rng.Float64() >= c.rate {
		return nil
	}
	r := c.pick[c.rng.IntN(len(c.pick))]
	if len(r.Ops) > 0 && !slices.Contains(r.Ops, op) {
		return nil
	}
	return &r
}

// Execute implements target.Unit.
func (u *Unit) Execute(cdb, out, in []byte) (int, error) {
	r := u.find(scsi.OpcodeOf(cdb))
	if r == nil {
		return u.base.Execute(cdb, out, in)
	}
	n, err := 0, error(nil)
	if r.Done || r.Twice || r.only() {
		n, err = u.base.Execute(cdb, out, in)
	}
	if r.Twice {
		n, err = u.base.Execute(cdb, out, in)
	}
	if r.Hook != nil {
		r.Hook()
	}
	switch {
	case r.Sense != nil:
		s := *r.Sense
		return 0, &s
	case r.Status != scsi.Good:
		return 0, &scsi.StatusError{Status: r.Status}
	case r.Lost, r.Timeout:
		return 0, &scsi.TransportError{Timeout: r.Timeout, Err: ErrInjected}
	}
	return n, err
}

// only reports a rule that is nothing but its hook.
func (r *Rule) only() bool {
	return r.Sense == nil && r.Status == scsi.Good && !r.Lost && !r.Timeout && !r.Twice
}

// find counts the command and returns the rule that holds for it. All rules see
// every command; of those that match, the first counts.
func (u *Unit) find(op scsi.Opcode) (found *Rule) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.counts[op]++
	for _, r := range u.rules {
		if r.matches(op) && found == nil {
			found = r
		}
	}
	if found == nil {
		found = u.random.rule(op)
	}
	return found
}
