// Package schedfs runs several simulated processes on one simulated disk and
// decides, call by call, which of them goes on.
//
// Every call to the file system that another process could notice is a point
// where the scheduler chooses: the call waits until it is granted, runs alone,
// and its process computes on until its next call. A [Strategy] chooses, from a
// seed; the same seed gives the same run again.
//
// # Waiting for locks
//
// Locks never wait; who wants one that is held asks again, after a sleep that
// costs no real time. The same request of the same process would be refused
// again until a lock is released, a file is renamed or removed, or a process ends;
// until then it is out of the choice, so that a strategy that prefers this
// process does not ask for ever. When all that is pending are such requests, all
// ask again: their callers may count the attempts and give up, after which the
// run goes on. When ten thousand in a row are refused, with no other call in
// between, nobody gives up: that is a deadlock, the run ends and says so.
//
// # When the scheduler chooses
//
// It must know that no process is about to make a call. A process made of one
// goroutine either computes, and is waited for, or has a call pending. That is
// all that the plain rule needs: choose when every process that has not returned
// has a call pending.
//
// A process of several goroutines may have one call pending while another
// goroutine computes. The plain rule then still works, but what is pending at
// the moment of choice may differ between two runs of one seed. Inside a
// synctest bubble, Config.Quiet = synctest.Wait makes it exact: the scheduler
// chooses when all goroutines are blocked for good. There a mutex must not be
// held across a call that another goroutine's wait for the mutex delays, because
// synctest does not count that as blocked.
//
// Processes do not share memory. Code that shares it, such as two sessions of
// one server, belongs into one process with several goroutines.
package schedfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/vfs"
	"github.com/holdfast-backup/holdfast/internal/vfs/simdisk"
)

// ErrDeadlock is wrapped when every process asks for a lock, again and again.
var ErrDeadlock = errors.New("deadlock: every process waits for a lock")

// ErrStuck is wrapped when a process neither calls nor returns.
var ErrStuck = errors.New("a process neither calls the file system nor returns")

// Config describes a run.
type Config struct {
	Seed     uint64
	Strategy Strategy // by default Random()
	// Kill ends processes as kill -9 does: the process with that index, before
	// its n-th call (from 0).
	Kill map[int]int
	// Quiet blocks until no goroutine computes: synctest.Wait, or nil for the
	// plain rule.
	Quiet func()
	// Patience is how long a process may compute under the plain rule before it
	// is given up; by default 20 seconds.
	Patience time.Duration
}

// Step is one granted call.
type Step struct {
	Proc int
	Call string
	Err  error
}

// Result is how a run went.
type Result struct {
	Errors []error // of each process
	Trace  []Step
	// Err wraps ErrDeadlock or ErrStuck if the run could not be finished.
	Err error
}

// String prints the schedule, one call a line.
func (r Result) String() string {
	var b strings.Builder
	for i, s := range r.Trace {
		fmt.Fprintf(&b, "%4d %*s%d: %s", i, 2*s.Proc, "", s.Proc, s.Call)
		if s.Err != nil {
			fmt.Fprintf(&b, ": %v", s.Err)
		}
		b.WriteByte('\n')
	}
	if r.Err != nil {
		fmt.Fprintf(&b, "     %v\n", r.Err)
	}
	return b.String()
}

// Run runs the processes until all have returned.
func Run(c Config, d *simdisk.Disk, procs ...func(vfs.FS) error) Result {
	if c.Strategy == nil {
		c.Strategy = Random()
	}
	if c.Patience == 0 {
		c.Patience = 20 * time.Second
	}
	s := &scheduler{
		c: c, rng: rand.New(rand.NewPCG(c.Seed, 0x5c4ed)), event: make(chan struct{}, 1),
		result: Result{Errors: make([]error, len(procs))},
	}
	s.pick = c.Strategy(s.rng, len(procs))
	for i := range procs {
		s.procs = append(s.procs, &process{Process: d.Process(), s: s, id: i, live: true, refused: map[string]bool{}})
	}
	for i, body := range procs {
		go s.procs[i].run(body)
	}
	for s.step() {
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return Result{slices.Clone(s.result.Errors), slices.Clone(s.result.Trace), s.aborted}
}

// scheduler is one run.
type scheduler struct {
	c     Config
	rng   *rand.Rand
	pick  Picker
	event chan struct{} // something below has changed

	mu       sync.Mutex
	procs    []*process
	steps    int
	refusals int // of locks, since anything else was done
	aborted  error
	result   Result
}

// call is a call that waits to be granted.
type call struct {
	what    string
	grant   chan error
	blocked bool // a lock that cannot be had yet
}

func (s *scheduler) changed() {
	select {
	case s.event <- struct{}{}:
	default:
	}
}

// step grants one call. It returns false when the run is over.
func (s *scheduler) step() bool {
	settled := s.settle()
	s.mu.Lock()
	live, ready := s.count()
	switch {
	case live == 0:
		s.mu.Unlock()
		return false
	case s.aborted != nil:
		s.mu.Unlock()
		return settled // give up on what does not even return now
	case !settled:
		s.abort(ErrStuck)
	case len(ready) > 0:
		s.grant(ready)
	default:
		s.again()
	}
	s.mu.Unlock()
	return true
}

// maxRefusals is more than any caller asks before it gives up: the store, for
// one, asks some 1200 times.
const maxRefusals = 10_000

// again lets refused requests be made again when nothing else is pending.
// Goroutines that sleep or compute may still make other calls; they go first.
func (s *scheduler) again() {
	grace, last := time.Duration(0), s.refusals >= maxRefusals
	switch {
	case last:
		grace = s.grace()
	case s.c.Quiet != nil:
		grace = time.Second // of the bubble's time
	}
	if grace > 0 {
		s.mu.Unlock()
		more := s.wait(grace)
		s.mu.Lock()
		if more {
			return
		}
	}
	if last {
		s.abort(s.reason())
		return
	}
	s.wake()
}

// grace is how long nothing must happen before the run is given up.
func (s *scheduler) grace() time.Duration {
	if s.c.Quiet != nil {
		return 24 * time.Hour // of the bubble's time
	}
	return time.Second
}

func (s *scheduler) reason() error {
	for _, p := range s.procs {
		if p.live && len(p.pending) == 0 {
			return ErrStuck
		}
	}
	return ErrDeadlock
}

func (s *scheduler) count() (live int, ready []int) {
	for _, p := range s.procs {
		if p.live {
			live++
		}
		if slices.ContainsFunc(p.pending, func(c *call) bool { return !c.blocked }) {
			ready = append(ready, p.id)
		}
	}
	return live, ready
}

// grant lets one call of one of the ready processes run.
func (s *scheduler) grant(ready []int) {
	p := s.procs[s.pick(s.steps, ready)]
	s.steps++
	if n, ok := s.c.Kill[p.id]; ok && p.calls == n && !p.killed {
		p.killed = true
		p.Kill()
		s.result.Trace = append(s.result.Trace, Step{Proc: p.id, Call: "killed"})
		s.wake()
		return
	}
	var open []*call
	for _, c := range p.pending {
		if !c.blocked {
			open = append(open, c)
		}
	}
	chosen := open[0]
	if len(open) > 1 {
		slices.SortStableFunc(open, func(a, b *call) int { return strings.Compare(a.what, b.what) })
		chosen = open[s.rng.IntN(len(open))]
	}
	p.pending = slices.DeleteFunc(p.pending, func(c *call) bool { return c == chosen })
	p.calls++
	p.running = true
	s.result.Trace = append(s.result.Trace, Step{Proc: p.id, Call: chosen.what})
	chosen.grant <- nil
}

// note says how the call that runs went.
func (s *scheduler) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.result.Trace[len(s.result.Trace)-1].Err = err
}

// wake lets everybody ask again for what was refused.
func (s *scheduler) wake() {
	for _, p := range s.procs {
		clear(p.refused)
		for _, c := range p.pending {
			c.blocked = false
		}
	}
}

// abort fails every call from now on.
func (s *scheduler) abort(why error) {
	var waits []string
	for _, p := range s.procs {
		for _, c := range p.pending {
			waits = append(waits, fmt.Sprintf("%d: %s", p.id, c.what))
		}
	}
	s.aborted = fmt.Errorf("%w (pending: %s)", why, strings.Join(waits, "; "))
	for _, p := range s.procs {
		for _, c := range p.pending {
			c.grant <- s.aborted
		}
		p.pending = nil
	}
}

// settle waits until the scheduler may choose. It returns false when it lost
// patience.
func (s *scheduler) settle() bool {
	if s.c.Quiet != nil {
		for {
			s.c.Quiet()
			if s.quiet() {
				return true
			}
			if !s.wait(s.grace()) {
				return false
			}
		}
	}
	var patience *time.Timer
	for !s.quiet() {
		if patience == nil {
			patience = time.NewTimer(s.c.Patience)
			defer patience.Stop()
		}
		select {
		case <-s.event:
		case <-patience.C:
			return false
		}
	}
	return true
}

// quiet says whether a choice is possible. In a bubble, a process without a
// pending call sleeps or waits for its own goroutines; others may go on.
func (s *scheduler) quiet() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	someone, everyone := false, true
	for _, p := range s.procs {
		if p.running {
			return false
		}
		someone = someone || p.live && len(p.pending) > 0
		everyone = everyone && (!p.live || len(p.pending) > 0)
	}
	return everyone || someone && s.c.Quiet != nil
}

func (s *scheduler) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.event:
		return true
	case <-t.C:
		return false
	}
}

// run is the life of one process.
func (p *process) run(body func(vfs.FS) error) {
	err := errors.New("the process ended without returning")
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
		p.Kill() // whoever returns holds no lock
		s := p.s
		s.mu.Lock()
		p.live = false
		s.result.Errors[p.id] = err
		s.refusals = 0
		s.wake()
		s.mu.Unlock()
		s.changed()
	}()
	err = body(p)
}
