package server

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// jobRunCalls are the calls about what jobs did and do.
func (s *Server) jobRunCalls() []api.Call {
	const seeGC = "Shown are datastores with Datastore.Audit or Datastore.Modify."
	list := []api.Call{
		{
			Method: "GET", Path: "/admin/gc", Doc: "Show the last and the next garbage collection of datastores.",
			Guard: api.LoggedIn(seeGC), Params: []api.AnyParam{params.store.Optional()}, Do: api.Data(s.gcJobs),
		},
		{
			Method: "GET", Path: "/admin/gc/{store}", Doc: "Show the last and the next garbage collection of a datastore.",
			Guard: api.LoggedIn(seeGC), Params: []api.AnyParam{params.store}, Do: api.Data(s.gcJobs),
		},
	}
	for _, k := range jobKinds() {
		if k.kind == jobs.Tape { // at other paths: tapeJobCalls
			continue
		}
		which := []api.AnyParam{params.store.Optional()}
		if k.kind == jobs.Sync {
			which = append(which, direction)
		}
		list = append(list, api.Call{
			Method: "GET", Path: "/admin/" + k.word, Doc: "List " + k.word + " jobs, when they run next, and how they ended.",
			Guard: api.LoggedIn(seeJobs), Params: which,
			Do: api.Data(func(_ context.Context, r *api.Request) ([]map[string]any, error) { return s.jobRuns(r, k.kind) }),
		}, api.Call{
			Method: "POST", Path: "/admin/" + k.word + "/{id}/run", Doc: "Run a " + k.word + " job now. The task is the answer.",
			Guard: api.LoggedIn(k.rule), Params: []api.AnyParam{jobID},
			Do: api.Data(func(_ context.Context, r *api.Request) (string, error) { return s.runJob(r, k.kind) }),
		})
	}
	return list
}

// jobRuns lists jobs with next-run and last-run-{upid,state,endtime}.
func (s *Server) jobRuns(r *api.Request, k jobs.Kind) ([]map[string]any, error) {
	shown, err := s.shownJobs(r, k)
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, j := range shown {
		if store, limited := params.store.Given(r); limited && j.Store != store {
			continue
		}
		item := jobItem(j)
		st, err := s.jobState(j)
		if err != nil {
			return nil, err
		}
		if next := j.Next(st, s.now(), s.opt.Location); !next.IsZero() {
			item["next-run"] = next.Unix()
		}
		if !st.UPID.IsZero() {
			item["last-run-upid"] = st.UPID.String()
		}
		if st.End != nil {
			item["last-run-state"], item["last-run-endtime"] = st.End.String(), st.End.End
		}
		list = append(list, item)
	}
	return list, nil
}

// jobState is what is known of the last run of a job; it counts as made now if
// nothing is.
func (s *Server) jobState(j jobs.Job) (jobs.State, error) {
	st, ok, err := s.schedule.States.Load(j.Key())
	if !ok {
		st = jobs.State{Created: s.now().Unix()}
	}
	return st, err
}

func (s *Server) runJob(r *api.Request, k jobs.Kind) (string, error) {
	j, err := jobs.Find(s.opt.Config, k, jobID.Of(r))
	if err != nil {
		return "", err
	}
	if err := mayRunJob(r.Policy, r.Caller, j); err != nil {
		return "", err
	}
	j.By = r.Caller
	id, err := s.RunJob(j)
	return id.String(), err
}

// gcJobs lists the garbage collections of datastores.
func (s *Server) gcJobs(ctx context.Context, r *api.Request) ([]items.GCJob, error) {
	only, limited := params.store.Given(r)
	may := func(store string) error {
		return r.Policy.RequireAny(r.Caller, access.StorePath(store, names.Root), access.DatastoreAudit|access.DatastoreModify)
	}
	if limited {
		if err := may(only); err != nil {
			return nil, err
		}
		one, err := s.gcJob(ctx, only)
		return []items.GCJob{one}, err
	}
	configs, err := s.stores.List()
	list := []items.GCJob{}
	for _, c := range configs {
		if may(c.Name) != nil {
			continue
		}
		// One that cannot be read now is not shown, as in PBS.
		if one, err := s.gcJob(ctx, c.Name); err == nil {
			list = append(list, one)
		}
	}
	return list, err
}

// gcJob is the last and the next garbage collection of a datastore.
func (s *Server) gcJob(ctx context.Context, store string) (st items.GCJob, err error) {
	err = s.using(store, stores.Read, func(h *stores.Handle) error {
		last, err := h.LastGC(ctx)
		if err != nil {
			return err
		}
		st = items.GCJob{Store: h.Config.Name, GC: items.GCOf(last), Schedule: h.Config.GCSchedule}
		s.fillLastRun(&st, last.UPID)
		j, err := jobs.Find(s.opt.Config, jobs.GC, store)
		if err != nil {
			return err
		}
		state, err := s.jobState(j)
		if err != nil {
			return err
		}
		if next := j.Next(state, s.now(), s.opt.Location); !next.IsZero() {
			at := next.Unix()
			st.NextRun = &at
		}
		return nil
	})
	return st, err
}
