package server

import (
	"context"
	"errors"

	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
)

// jobKind is a kind of job as calls know it.
type jobKind struct {
	kind  jobs.Kind
	word  string          // for people
	path  string          // of the calls about its configuration
	see   string          // who sees one
	rule  string          // what changing one needs
	fresh sections.Fields // of a call that adds one
	edit  sections.Fields // of a call that changes one
}

func jobKinds() []jobKind {
	var list []jobKind
	for _, k := range []jobKind{
		{kind: jobs.Prune, path: "/config/prune", see: seeJobs, rule: changePrune},
		{kind: jobs.Verify, path: "/config/verify", see: seeJobs, rule: changeVerify},
		{kind: jobs.Sync, path: "/config/sync", see: seeJobs, rule: changeSync},
		{kind: jobs.Tape, path: "/config/tape-backup-job", see: seeTapeJobs, rule: changeTape},
	} {
		k.word = k.kind.Word()
		k.fresh, k.edit = sections.Of(jobs.Properties(k.kind), true), sections.Of(jobs.Properties(k.kind), false)
		list = append(list, k)
	}
	return list
}

var (
	jobID     = api.Match("id", "The job.", safeID, 32)
	direction = api.Choice("sync-direction", "Those that pull, push, or all.", "all", "pull", "push").Default("pull")
)

// jobConfigCalls are the calls about the configuration of jobs.
func (s *Server) jobConfigCalls() []api.Call {
	var list []api.Call
	for _, k := range jobKinds() {
		at := k.path
		remove := k.edit.Removal()
		var which []api.AnyParam
		if k.kind == jobs.Sync {
			which = append(which, direction)
		}
		list = append(list, []api.Call{
			{
				Method: "GET", Path: at, Doc: "List " + k.word + " jobs.", Guard: api.LoggedIn(k.see), Params: which,
				Do: api.Data(func(_ context.Context, r *api.Request) ([]map[string]any, error) { return s.jobConfigs(r, k.kind) }),
			},
			{
				Method: "POST", Path: at, Doc: "Add a " + k.word + " job.", Guard: api.LoggedIn(k.rule),
				Params: append([]api.AnyParam{jobID}, k.fresh.Params()...),
				Do:     api.Nothing(func(ctx context.Context, r *api.Request) error { return s.addJob(ctx, r, k.kind, k.fresh.Values(r)) }),
			},
			{
				Method: "GET", Path: at + "/{id}", Doc: "Show a " + k.word + " job.", Guard: api.LoggedIn(k.see), Params: []api.AnyParam{jobID},
				Do: api.Data(func(_ context.Context, r *api.Request) (map[string]any, error) { return s.jobConfig(r, k.kind) }),
			},
			{
				Method: "PUT", Path: at + "/{id}", Doc: "Change a " + k.word + " job.", Guard: api.LoggedIn(k.rule),
				Params: append([]api.AnyParam{jobID, remove, params.digest}, k.edit.Params()...),
				Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
					return s.changeJob(ctx, r, k.kind, sections.Merged(k.edit.Values(r), remove.Of(r)))
				}),
			},
			{
				Method: "DELETE", Path: at + "/{id}", Doc: "Remove a " + k.word + " job.", Guard: api.LoggedIn(k.rule),
				Params: []api.AnyParam{jobID, params.digest},
				Do:     api.Nothing(func(ctx context.Context, r *api.Request) error { return s.removeJob(ctx, r, k.kind) }),
			},
		}...)
	}
	return list
}

// jobItem is a job as it is in the file.
func jobItem(j jobs.Job) map[string]any {
	item := property.Item(j.Section(), jobs.Properties(j.Kind))
	item["id"] = j.ID
	return item
}

// shownJobs are the jobs of a kind that the caller sees.
func (s *Server) shownJobs(r *api.Request, k jobs.Kind) ([]jobs.Job, error) {
	all, digest, err := jobs.LoadKind(s.opt.Config, k)
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	var list []jobs.Job
	for _, j := range all {
		if k == jobs.Sync {
			if d := direction.Of(r); d != "all" && (d == "pull") != j.Pulls() {
				continue
			}
		}
		if maySeeJob(r.Policy, r.Caller, j) == nil {
			list = append(list, j)
		}
	}
	return list, nil
}

func (s *Server) jobConfigs(r *api.Request, k jobs.Kind) ([]map[string]any, error) {
	shown, err := s.shownJobs(r, k)
	list := []map[string]any{}
	for _, j := range shown {
		list = append(list, jobItem(j))
	}
	return list, err
}

func (s *Server) jobConfig(r *api.Request, k jobs.Kind) (map[string]any, error) {
	all, digest, err := jobs.LoadKind(s.opt.Config, k)
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	j, err := jobs.Pick(all, k, jobID.Of(r))
	if err == nil {
		err = maySeeJob(r.Policy, r.Caller, j)
	}
	if err != nil {
		return nil, err
	}
	return jobItem(j), nil
}

// changer changes jobs on behalf of the caller.
func (s *Server) changer(r *api.Request, digest string) jobs.Changer {
	return jobs.Changer{Conf: s.opt.Config, Digest: digest, Allow: func(j jobs.Job) error { return mayChangeJob(r.Policy, r.Caller, j) }}
}

// addJob adds a job. Who may not add it does not hear whether there is one.
func (s *Server) addJob(ctx context.Context, r *api.Request, k jobs.Kind, v property.Values) error {
	j, err := jobs.Once(k, jobID.Of(r), v)
	if err != nil {
		return err
	}
	if err := mayChangeJob(r.Policy, r.Caller, j); err != nil {
		return err
	}
	return jobs.Add(ctx, s.opt.Config, k, j.ID, v)
}

// changeJob changes a job. If its schedule is another, that counts from now on.
func (s *Server) changeJob(ctx context.Context, r *api.Request, k jobs.Kind, v property.Values) error {
	id := jobID.Of(r)
	if err := s.changer(r, params.digest.Of(r)).Change(ctx, k, id, v); err != nil {
		return err
	}
	if _, other := v["schedule"]; !other {
		return nil
	}
	return s.schedule.States.Touch(jobs.Job{Kind: k, ID: id}.Key(), s.now())
}

// removeJob removes a job and what is known of its runs. One that runs goes on.
func (s *Server) removeJob(ctx context.Context, r *api.Request, k jobs.Kind) error {
	id := jobID.Of(r)
	if err := s.changer(r, params.digest.Of(r)).Remove(ctx, k, id); err != nil {
		return err
	}
	err := s.schedule.States.Forget(jobs.Job{Kind: k, ID: id}.Key())
	if errors.Is(err, jobs.ErrRunning) {
		return nil
	}
	return err
}
