package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// Synctest's clock starts at midnight, a Saturday: 2000-01-01 UTC.

// runner is a server that only waits.
type runner struct {
	takes  time.Duration
	refuse func() error
	end    tasks.State

	mu     sync.Mutex
	starts []string
	ends   map[upid.UPID]time.Time
	most   map[string]int // at a time
	now    map[string]int
	look   func(upid.UPID) (*tasks.State, error)
}

func (r *runner) Start(j jobs.Job) (upid.UPID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil {
		if err := r.refuse(); err != nil {
			return upid.UPID{}, err
		}
	}
	id := upid.New("node", 1, time.Now(), string(j.Kind), j.Worker(), "root@pam")
	id.TaskID = uint64(len(r.starts))
	r.starts = append(r.starts, fmt.Sprintf("%s %s", time.Now().UTC().Format("02T15:04"), j.Key()))
	if r.ends == nil {
		r.ends, r.most, r.now = map[upid.UPID]time.Time{}, map[string]int{}, map[string]int{}
	}
	r.ends[id] = time.Now().Add(r.takes)
	r.now[j.Key()]++
	r.most[j.Key()] = max(r.most[j.Key()], r.now[j.Key()])
	go func() {
		time.Sleep(r.takes)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.now[j.Key()]--
	}()
	return id, nil
}

func (r *runner) End(id upid.UPID) tasks.State {
	r.mu.Lock()
	at := r.ends[id]
	r.mu.Unlock()
	time.Sleep(time.Until(at))
	end := r.end
	end.End = time.Now().Unix()
	if end.Kind == "" {
		end.Kind = tasks.OK
	}
	return end
}

func (r *runner) Look(id upid.UPID) (*tasks.State, error) {
	if r.look != nil {
		return r.look(id)
	}
	return nil, tasks.ErrUnknown
}

// scheduler makes one; run lets it work for a time.
func scheduler(t *testing.T, d confdir.Dir, states jobs.States, r *runner) *jobs.Scheduler {
	return &jobs.Scheduler{Conf: d, States: states, Runner: r, Location: time.UTC, Log: slog.New(slog.DiscardHandler)}
}

func run(s *jobs.Scheduler, span time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	s.Run(ctx)
	s.Wait()
}

func newStates(t *testing.T) jobs.States {
	t.Helper()
	d, err := jobs.OpenStates(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func pruneAt(schedule string) map[confdir.File]string {
	return map[confdir.File]string{confdir.PruneJobs: "prune: one\n	keep-last 1\n	schedule " + schedule + "\n	store tank\n"}
}

func want(t *testing.T, r *runner, starts ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.starts, starts) {
		t.Errorf("started %q, want %q", r.starts, starts)
	}
}

func TestJobsStartWhenTheirTimeComes(t *testing.T) {
	d, states := config(t, written), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		r := &runner{takes: time.Minute}
		s := scheduler(t, d, states, r)
		time.Sleep(2*time.Hour + 20*time.Minute)
		run(s, 54*time.Minute)
		want(t, r, "01T02:30 prunejob-nightly", "01T02:30 syncjob-offsite", "01T02:45 syncjob-offsite",
			"01T03:00 prune-old", "01T03:00 syncjob-offsite")
		st, ok, err := states.Load("prunejob-nightly")
		if err != nil || !ok || st.End == nil || st.End.Kind != tasks.OK || st.Last().UTC().Format("15:04") != "02:30" {
			t.Errorf("%+v, %v, %v", st, ok, err)
		}
	})
}

func TestWhatWasMissedIsDoneOnce(t *testing.T) {
	d, states := config(t, pruneAt("02:00")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		r := &runner{}
		run(scheduler(t, d, states, r), 3*time.Hour)
		want(t, r, "01T02:00 prunejob-one")
		time.Sleep(4 * 24 * time.Hour) // no server runs
		run(scheduler(t, d, states, r), time.Hour)
		want(t, r, "01T02:00 prunejob-one", "05T03:00 prunejob-one")
	})
}

func TestAJobNeverRunsTwiceAtATime(t *testing.T) {
	d, states := config(t, pruneAt("*:0/5")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		r := &runner{takes: 12 * time.Minute}
		a, b := scheduler(t, d, states, r), scheduler(t, d, states, r)
		var both sync.WaitGroup
		both.Go(func() { run(a, 40*time.Minute) })
		both.Go(func() { run(b, 40*time.Minute) })
		both.Wait()
		if r.most["prunejob-one"] != 1 || len(r.starts) < 2 {
			t.Errorf("%d at a time, %q", r.most["prunejob-one"], r.starts)
		}
	})
}

func TestAJobThatCannotStartIsTriedAgainAMinuteLater(t *testing.T) {
	d, states := config(t, pruneAt("02:00")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		r := &runner{refuse: func() error {
			if tries++; tries <= 3 {
				return errors.New("another one runs")
			}
			return nil
		}}
		time.Sleep(time.Hour)
		run(scheduler(t, d, states, r), 2*time.Hour)
		want(t, r, "01T02:03 prunejob-one")
	})
}

func TestARunThatDiedIsToldAndDoneAgainAtItsTime(t *testing.T) {
	d, states := config(t, pruneAt("02:00")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		dead := upid.New("node", 1, time.Now().Add(-22*time.Hour), "prunejob", "tank", "root@pam")
		if err := states.Save("prunejob-one", jobs.State{UPID: dead}); err != nil {
			t.Fatal(err)
		}
		r := &runner{look: func(upid.UPID) (*tasks.State, error) { return &tasks.State{Kind: tasks.Unknown, End: 7}, nil }}
		s := scheduler(t, d, states, r)
		var told []string
		s.Ended = func(j jobs.Job, _ upid.UPID, end tasks.State) { told = append(told, j.ID+" "+end.String()) }
		run(s, time.Hour)
		want(t, r)
		if !slices.Equal(told, []string{"one unknown"}) {
			t.Errorf("%q", told)
		}
		st, _, err := states.Load("prunejob-one")
		if err != nil || st.End == nil || st.End.Kind != tasks.Unknown {
			t.Errorf("%+v, %v", st, err)
		}
		run(s, 2*time.Hour)
		want(t, r, "01T02:00 prunejob-one")
	})
}

// The task of a server that is about to stop goes on beside the new one.
func TestARunOfAnotherProcessIsWaitedFor(t *testing.T) {
	d, states := config(t, pruneAt("*:0/10")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		other := upid.New("node", 2, time.Now().Add(-time.Hour), "prunejob", "tank", "root@pam")
		if err := states.Save("prunejob-one", jobs.State{UPID: other}); err != nil {
			t.Fatal(err)
		}
		ends := time.Now().Add(25 * time.Minute)
		r := &runner{look: func(upid.UPID) (*tasks.State, error) {
			if time.Now().Before(ends) {
				return nil, nil
			}
			return &tasks.State{Kind: tasks.OK, End: ends.Unix()}, nil
		}}
		run(scheduler(t, d, states, r), 35*time.Minute)
		want(t, r, "01T00:25 prunejob-one", "01T00:30 prunejob-one")
	})
}

func TestChangesOfTheFilesCount(t *testing.T) {
	d, states := config(t, pruneAt("05:00")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		r := &runner{}
		s := scheduler(t, d, states, r)
		go func() {
			time.Sleep(90 * time.Minute)
			err := jobs.Change(context.Background(), d, jobs.Prune, "one", "", jobs.Values{"schedule": {"02:00"}})
			if err != nil {
				t.Error(err)
			}
		}()
		run(s, 3*time.Hour)
		want(t, r, "01T02:00 prunejob-one")
	})
}

// A job whose schedule is put to a time that is over today does not run at once, if
// it is said that it was changed.
func TestAChangedScheduleCountsFromItsChange(t *testing.T) {
	d, states := config(t, pruneAt("05:00")), newStates(t)
	synctest.Test(t, func(t *testing.T) {
		r := &runner{}
		run(scheduler(t, d, states, r), 6*time.Hour)
		want(t, r, "01T05:00 prunejob-one")
		if err := jobs.Change(context.Background(), d, jobs.Prune, "one", "", jobs.Values{"schedule": {"05:30"}}); err != nil {
			t.Fatal(err)
		}
		if err := states.Touch("prunejob-one", time.Now()); err != nil {
			t.Fatal(err)
		}
		run(scheduler(t, d, states, r), 6*time.Hour)
		want(t, r, "01T05:00 prunejob-one")
	})
}

func TestDueDecidesFromValuesAlone(t *testing.T) {
	all, err := jobs.Load(config(t, written))
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		when, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	var items []jobs.Item
	for _, j := range all {
		items = append(items, jobs.Item{Job: j, Last: at("2026-06-06 12:00")}) // a Saturday
	}
	start, next := jobs.Due(items, at("2026-06-06 12:10"), time.UTC)
	if len(start) != 0 || !next.Equal(at("2026-06-06 12:15")) {
		t.Errorf("%v, %v", start, next)
	}
	items[5].Running = true // the sync job
	start, next = jobs.Due(items, at("2026-06-06 12:16"), time.UTC)
	if len(start) != 0 || !next.Equal(at("2026-06-06 18:15")) {
		t.Errorf("%v, %v", start, next)
	}
	start, next = jobs.Due(items, at("2026-06-07 02:30"), time.UTC)
	var keys []string
	for _, j := range start {
		keys = append(keys, j.Key())
	}
	if !slices.Equal(keys, []string{"garbage_collection-tank", "prunejob-nightly", "verificationjob-weekly-check"}) || !next.Equal(at("2026-06-07 03:00")) {
		t.Errorf("%q, %v", keys, next)
	}
}
