package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/replicate"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// administrator runs what nobody asked for.
var administrator = names.AuthID{User: "root", Realm: "pam"}

// newScheduler makes what starts jobs when they are due.
func (s *Server) newScheduler() (*jobs.Scheduler, error) {
	states, err := jobs.OpenStates(s.opt.JobDir)
	if err != nil {
		return nil, err
	}
	return &jobs.Scheduler{
		Conf: s.opt.Config, States: states, Runner: runner{s}, Location: s.opt.Location, Log: s.log, Ended: s.jobEnded,
	}, nil
}

// RunJob starts a job now. It fails with jobs.ErrRunning if it runs.
func (s *Server) RunJob(j jobs.Job) (upid.UPID, error) { return s.schedule.RunNow(j) }

// Wait returns when what was known of jobs that were started is written down.
func (s *Server) Wait() { s.schedule.Wait() }

// Tasks are the tasks of the server.
func (s *Server) Tasks() *tasks.Log { return s.tasks }

// runner runs jobs as tasks of the server.
type runner struct{ s *Server }

func (r runner) Start(j jobs.Job) (upid.UPID, error) {
	by := j.By
	if by == (names.AuthID{}) {
		by = administrator
	}
	switch j.Kind {
	case jobs.GC:
		return r.s.StartGC(j.Store, by)
	case jobs.Prune, jobs.OldPrune:
		return r.s.StartPrune(PruneStore{
			Store: j.Store, NS: j.Namespace(), Depth: j.Depth(), Keep: j.Keep(),
			Type: string(j.Kind), Worker: j.Worker(), Auth: by,
		})
	case jobs.Verify:
		v := Verify{
			Store: j.Store, NS: j.Namespace(), Depth: j.Depth(), Workers: j.Threads(),
			Type: string(j.Kind), Worker: j.Worker(), Auth: by,
		}
		v.IgnoreVerified, v.OutdatedAfter = j.IgnoreVerified()
		return r.s.StartVerify(v)
	case jobs.Tape:
		return r.s.tapes.StartJob(j.ID, tasks.Job{Type: string(j.Kind), Worker: j.Worker(), Auth: by.String()})
	case jobs.Sync:
	}
	return r.s.startSync(j, tasks.Job{Type: string(j.Kind), Worker: j.Worker(), Auth: by.String()})
}

func (r runner) End(id upid.UPID) tasks.State { return r.s.tasks.Wait(id) }

func (r runner) Look(id upid.UPID) (*tasks.State, error) { return r.s.tasks.State(id) }

// startSync copies snapshots between two datastores, one of which may be on another
// server.
func (s *Server) startSync(j jobs.Job, task tasks.Job) (upid.UPID, error) {
	work, err := j.Sync()
	if err != nil {
		return upid.UPID{}, err
	}
	here, there := stores.Write, stores.Read
	if !work.Pull {
		here, there = there, here
	}
	return s.StartTask(task, func(ctx context.Context, t *tasks.Task) error {
		return s.using(j.Store, here, func(h *stores.Handle) error {
			other, err := s.otherEnd(ctx, work, there)
			if err != nil {
				return err
			}
			policy, err := s.store.Policy()
			if policy == nil {
				return errors.Join(err, other.close())
			}
			own := mandate{policy, work.Owner}.local(h.Store, j.Store, here)
			src, dst := own, other.within(mandate{policy, work.Owner}, work, there)
			if work.Pull {
				src, dst = dst, src
			}
			opt := work.Options
			if !work.Pull && other.auth != "" {
				opt.Owner = other.auth
			}
			t.Logf("sync datastore '%s' %s %s", j.Store, map[bool]string{true: "from", false: "to"}[work.Pull], other.Location())
			return errors.Join(replicated(ctx, t, src, dst, opt), other.close())
		})
	})
}

// otherRepository is the datastore that a job names besides its own.
type otherRepository struct {
	repo.Repository
	store stores.Store // the same, if it is one of this server
	auth  string       // who we are there; "": not on another server
	close func() error
}

// within is the repository as far as a mandate reaches. What may be read on another
// server is for that to say.
func (o otherRepository) within(m mandate, work jobs.SyncJob, op stores.Operation) repo.Repository {
	switch {
	case o.store != nil:
		return m.local(o.store, work.Other.Store, op)
	case op == stores.Write:
		return m.remote(o.Repository, work.Other.Remote, work.Other.Store)
	}
	return o.Repository
}

func (s *Server) otherEnd(ctx context.Context, work jobs.SyncJob, op stores.Operation) (otherRepository, error) {
	if work.Other.Remote == "" {
		h, err := s.stores.Open(work.Other.Store, op)
		if err != nil {
			return otherRepository{}, err
		}
		return otherRepository{h.Store, h.Store, "", h.Close}, nil
	}
	remote, err := jobs.FindRemote(s.opt.Config, work.Other.Remote)
	if err != nil {
		return otherRepository{}, err
	}
	if s.opt.Remotes == nil {
		return otherRepository{}, errNoRemotes
	}
	r, err := s.opt.Remotes.Open(ctx, remote, work.Other.Store)
	if err != nil {
		return otherRepository{}, fmt.Errorf("remote %s: %w", work.Other.Remote, err)
	}
	return otherRepository{r, nil, remote.Auth.String(), r.Close}, nil
}

// errNoRemotes is the error of a server that was made without a way to others.
var errNoRemotes = errors.New("this server was not made to reach others")

func replicated(ctx context.Context, t *tasks.Task, src, dst repo.Repository, o replicate.Options) error {
	o.Logf, o.Warnf = t.Logf, t.Warnf
	rep, err := replicate.Run(ctx, src, dst, o)
	if err != nil {
		return err
	}
	t.Logf("snapshots: %d copied, %d mended; chunks: %d copied, %d were there; %d bytes", rep.Snapshots, rep.Mended, rep.Chunks, rep.Known, rep.Bytes)
	if rep.RemovedSnapshots+rep.RemovedGroups+rep.RemovedNamespaces > 0 {
		t.Logf("removed: %d snapshots, %d groups, %d namespaces", rep.RemovedSnapshots, rep.RemovedGroups, rep.RemovedNamespaces)
	}
	if n := len(rep.Failures); n > 0 {
		return fmt.Errorf("sync failed with some errors: %d things could not be done, see the log", n)
	}
	return nil
}
