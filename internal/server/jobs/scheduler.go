package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// Item is a job and what is known of it at a moment.
type Item struct {
	Job     Job
	Last    time.Time // from when on its schedule counts
	Running bool
}

// Due decides which jobs start now, and when the next one comes if nothing changes;
// that is zero if none does.
func Due(items []Item, now time.Time, loc *time.Location) (start []Job, next time.Time) {
	for _, i := range items {
		if i.Running || !i.Job.Scheduled() {
			continue
		}
		at, due, ok := i.Job.event.Due(i.Last, now, loc)
		switch {
		case due:
			start = append(start, i.Job)
		case ok && (next.IsZero() || at.Before(next)):
			next = at
		}
	}
	return start, next
}

// Next says when a job starts next by itself: now, if that is over. It is zero if it
// does not.
func (j Job) Next(st State, now time.Time, loc *time.Location) time.Time {
	start, next := Due([]Item{{Job: j, Last: st.Last()}}, now, loc)
	if len(start) > 0 {
		return now
	}
	return next
}

// Runner runs jobs as tasks.
type Runner interface {
	// Start starts a job, or says why that is not possible now.
	Start(Job) (upid.UPID, error)
	// End waits for the end of a task.
	End(upid.UPID) tasks.State
	// Look returns how a task ended that may be another process's, nil while it runs.
	Look(upid.UPID) (*tasks.State, error)
}

// Scheduler starts jobs when they are due. Its fields are not changed while it runs.
type Scheduler struct {
	Conf     confdir.Dir
	States   States
	Runner   Runner
	Location *time.Location
	Log      *slog.Logger
	// Ended hears of each run that has ended; may be nil.
	Ended func(Job, upid.UPID, tasks.State)

	active sync.WaitGroup
}

// again is how often the files are looked at, and what could not be started is tried
// again.
const again = time.Minute

// Run starts jobs until ctx ends. Those that were started go on: see Wait.
func (s *Scheduler) Run(ctx context.Context) {
	for {
		next := s.round(ctx, time.Now())
		wait := again
		if !next.IsZero() {
			wait = min(max(time.Until(next), 0), wait)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// Wait returns when all jobs that were started have ended.
func (s *Scheduler) Wait() { s.active.Wait() }

// round starts what is due and returns when to look again.
func (s *Scheduler) round(ctx context.Context, now time.Time) time.Time {
	all, err := Load(s.Conf)
	if err != nil {
		s.Log.Error("jobs cannot be read", "error", err)
		return time.Time{}
	}
	var items []Item
	for _, j := range all {
		i, err := s.item(j, now)
		if err != nil {
			s.Log.Error("the state of a job cannot be read", "job", j.Key(), "error", err)
			continue
		}
		items = append(items, i)
	}
	start, next := Due(items, now, s.Location)
	for _, j := range start {
		if ctx.Err() != nil {
			break
		}
		if _, err := s.RunNow(j); err != nil {
			s.Log.Warn("a job could not be started", "job", j.Key(), "error", err)
		}
	}
	return next
}

// item looks up what is known of a job, and settles the end of a run that died.
func (s *Scheduler) item(j Job, now time.Time) (Item, error) {
	st, ok, err := s.States.Load(j.Key())
	if err != nil {
		return Item{}, err
	}
	if !ok {
		st = State{Created: now.Unix()}
		if err := s.States.Save(j.Key(), st); err != nil {
			return Item{}, err
		}
	}
	i := Item{Job: j, Last: st.Last()}
	if st.Running() {
		if i.Running, err = s.settle(j, st); err != nil {
			return i, err
		}
	}
	return i, nil
}

// settle finds out how a run ended whose process did not live to write it down.
func (s *Scheduler) settle(j Job, st State) (running bool, err error) {
	unlock, err := s.States.Lock(j.Key())
	if errors.Is(err, ErrRunning) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	end, err := s.Runner.Look(st.UPID)
	if errors.Is(err, tasks.ErrUnknown) {
		end, err = &tasks.State{Kind: tasks.Unknown, End: st.UPID.Start().Unix()}, nil
	}
	if err != nil || end == nil {
		return true, err
	}
	st.End = end
	if err := s.States.Save(j.Key(), st); err != nil {
		return false, err
	}
	s.tell(j, st)
	return false, nil
}

// RunNow starts a job, unless it runs.
func (s *Scheduler) RunNow(j Job) (_ upid.UPID, err error) {
	if j.Problem != nil {
		return upid.UPID{}, fmt.Errorf("%s: %w", j, j.Problem)
	}
	unlock, err := s.States.Lock(j.Key())
	if err != nil {
		return upid.UPID{}, err
	}
	id, err := s.Runner.Start(j)
	if err != nil {
		return id, errors.Join(fmt.Errorf("%s: %w", j, err), unlock())
	}
	st := State{UPID: id}
	if err := s.States.Save(j.Key(), st); err != nil { // it runs nevertheless
		s.Log.Error("the state of a job was not written", "job", j.Key(), "error", err)
	}
	s.active.Go(func() {
		end := s.Runner.End(id)
		st.End = &end
		if err := errors.Join(s.States.Save(j.Key(), st), unlock()); err != nil {
			s.Log.Error("the state of a job was not written", "job", j.Key(), "error", err)
		}
		s.tell(j, st)
	})
	return id, nil
}

func (s *Scheduler) tell(j Job, st State) {
	s.Log.Info("a job ended", "job", j.Key(), "upid", st.UPID.String(), "state", st.End.String())
	if s.Ended != nil {
		s.Ended(j, st.UPID, *st.End)
	}
}
