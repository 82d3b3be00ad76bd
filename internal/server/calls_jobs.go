package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// jobCalls are the calls that start long work.
func (s *Server) jobCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "POST", Path: at + "/prune", Doc: "Remove the snapshots of a group that the options do not keep; without any option all are kept.",
			Guard: content(access.CallForget), Params: groupParams(append(keepParams(), params.dryRun, useTask)...), Do: api.Data(s.prune),
		},
		{
			Method: "POST", Path: at + "/prune-datastore", Doc: "Remove the snapshots of a datastore, or of a namespace, that the options do not keep.",
			Guard: content(access.CallForget), Params: storeParams(append(keepParams(), params.dryRun, params.depth.Optional())...), Do: api.Data(s.pruneStore),
		},
		{
			Method: "POST", Path: at + "/gc", Doc: "Start a garbage collection.",
			Guard: api.Where("/datastore/{store}", access.DatastoreModify), Params: []api.AnyParam{params.store}, Do: api.Data(s.gc),
		},
		{
			Method: "GET", Path: at + "/gc", Doc: "Show the last garbage collection.",
			Guard: api.Where("/datastore/{store}", access.DatastoreAudit), Params: []api.AnyParam{params.store}, Do: api.Data(s.gcStatus),
		},
		{
			Method: "POST", Path: at + "/verify", Doc: "Read snapshots back and compare all of their data with its checksums: one, those of a group, or all.",
			Guard: content(access.CallVerify),
			Params: storeParams(params.typ.Optional(), params.id.Optional(), params.time.Optional(), params.depth.Optional(),
				ignoreVerified, outdatedAfter, readThreads, verifyThreads),
			Do: api.Data(s.verify),
		},
	}
}

var (
	useTask        = api.Bool("use-task", "Answer at once with the task that does the work.").Default(false)
	ignoreVerified = api.Bool("ignore-verified", "Leave out what was verified before.").Default(true)
	outdatedAfter  = api.Int("outdated-after", "Days after which it is verified again.", 0, 36500).Optional()
	readThreads    = api.Int("read-threads", "Does not matter here: reading keeps pace with checking.", 1, 32).Optional()
	verifyThreads  = api.Int("verify-threads", "How many chunks are checked at a time.", 1, 32).Optional()
)

// keeps are the options of pruning.
var keeps = []struct {
	param api.Param[int64]
	field func(*retention.Options) *int
}{
	{keep("last", "of the newest snapshots"), func(o *retention.Options) *int { return &o.Last }},
	{keep("hourly", "of the newest hours"), func(o *retention.Options) *int { return &o.Hourly }},
	{keep("daily", "of the newest days"), func(o *retention.Options) *int { return &o.Daily }},
	{keep("weekly", "of the newest weeks"), func(o *retention.Options) *int { return &o.Weekly }},
	{keep("monthly", "of the newest months"), func(o *retention.Options) *int { return &o.Monthly }},
	{keep("yearly", "of the newest years"), func(o *retention.Options) *int { return &o.Yearly }},
}

func keep(what, doc string) api.Param[int64] {
	return api.Int("keep-"+what, "Keep the newest of so many "+doc[len("of the newest "):]+".", 1, 1<<31-1).Optional()
}

func keepParams() []api.AnyParam {
	var list []api.AnyParam
	for _, k := range keeps {
		list = append(list, k.param)
	}
	return list
}

func keepOf(r *api.Request) (o retention.Options) {
	for _, k := range keeps {
		*k.field(&o) = int(k.param.Of(r))
	}
	return o
}

// prune answers with what became of each snapshot, oldest first, or with a task.
func (s *Server) prune(ctx context.Context, r *api.Request) (answer any, err error) {
	work := pruneWork{
		store: params.store.Of(r), ns: params.ns.Of(r), group: groupOf(r), keep: keepOf(r),
		dry: params.dryRun.Of(r), location: s.opt.Location,
	}
	err = s.withGroup(ctx, r, access.CallForget, stores.Write, func(h *stores.Handle) error {
		if work.dry {
			list, err := work.run(ctx, h, nil)
			answer = list
			return err
		}
		if useTask.Of(r) {
			id, err := s.start(r.Caller, work.job(), func(ctx context.Context, t Task) error {
				return s.using(work.store, stores.Write, func(h *stores.Handle) error { _, err := work.run(ctx, h, t); return err })
			})
			answer = id.String()
			return err
		}
		t, err := s.tasks.Begin(ctx, work.job().by(r.Caller))
		if err != nil {
			return err
		}
		list, err := work.run(t.Context(), h, t)
		t.End(err)
		answer = list
		return err
	})
	return answer, err
}

// pruneStore prunes the groups within reach in a task.
func (s *Server) pruneStore(_ context.Context, r *api.Request) (string, error) {
	store, ns := params.store.Of(r), params.ns.Of(r)
	deep, limited := params.depth.Given(r)
	p := PruneStore{Store: store, NS: ns, Keep: keepOf(r), DryRun: params.dryRun.Of(r), Depth: -1, Auth: r.Caller, Policy: r.Policy}
	if limited {
		p.Depth = int(deep)
	}
	if _, err := s.stores.Find(store); err != nil {
		return "", err
	}
	id, err := s.StartPrune(p)
	return id.String(), err
}

func (s *Server) gc(_ context.Context, r *api.Request) (string, error) {
	if err := s.checkOpen(params.store.Of(r), stores.Write); err != nil {
		return "", err
	}
	id, err := s.StartGC(params.store.Of(r), r.Caller)
	return id.String(), err
}

func (s *Server) gcStatus(ctx context.Context, r *api.Request) (items.GCJob, error) {
	return s.gcJob(ctx, params.store.Of(r))
}

// fillLastRun says how the task of a collection ended, if one has run and its log is
// still there.
func (s *Server) fillLastRun(st *items.GCJob, last string) {
	id, err := upid.Parse(last)
	if err != nil {
		return
	}
	state, err := s.tasks.State(id)
	if err != nil || state == nil {
		return
	}
	took := state.End - id.Time
	st.LastRunEndtime, st.LastRunState, st.Duration = &state.End, state.String(), &took
}

func (s *Server) verify(ctx context.Context, r *api.Request) (string, error) {
	v := Verify{
		Store: params.store.Of(r), NS: params.ns.Of(r), Depth: -1, Auth: r.Caller, Policy: r.Policy,
		IgnoreVerified: ignoreVerified.Of(r), OutdatedAfter: time.Duration(outdatedAfter.Of(r)) * 24 * time.Hour,
		Workers: int(verifyThreads.Of(r)),
	}
	if deep, limited := params.depth.Given(r); limited {
		v.Depth = int(deep)
	}
	_, hasType := params.typ.Given(r)
	_, hasID := params.id.Given(r)
	_, hasTime := params.time.Given(r)
	if hasType != hasID || hasTime && !hasID {
		return "", errors.New("parameters do not specify a backup group or snapshot")
	}
	if hasID {
		g := groupOf(r)
		v.Group = &g
		err := s.withGroup(ctx, r, access.CallVerify, stores.Read, func(h *stores.Handle) error {
			_, err := h.Owner(ctx, v.NS, g) // whether it is there
			return err
		})
		if err != nil {
			return "", err
		}
	}
	if hasTime {
		v.Time = params.time.Of(r)
	}
	if err := s.checkOpen(v.Store, stores.Read); err != nil {
		return "", err
	}
	id, err := s.StartVerify(v)
	return id.String(), err
}

// pruneWork is the pruning of one group.
type pruneWork struct {
	store    string
	ns       names.Namespace
	group    names.Group
	keep     retention.Options
	dry      bool
	location *time.Location
}

func (w pruneWork) job() job {
	return job{"prune", fmt.Sprintf("%s:%s:%s", w.store, w.ns, w.group)}
}

// run prunes the group and tells t, if there is one, about it.
func (w pruneWork) run(ctx context.Context, h *stores.Handle, t Task) ([]items.Pruned, error) {
	if t == nil {
		t = silent{}
	}
	opt := repo.PruneOptions{Namespace: w.ns, Group: &w.group, Keep: w.keep, DryRun: w.dry, Location: w.location}
	if opt.Keep.IsZero() {
		t.Logf("No prune selection - keeping all files.")
		opt.Keep.Last, opt.DryRun = 1, true // only to see what there is
	} else {
		t.Logf("Starting prune on %s group \"%s\"", where(w.store, w.ns), w.group)
	}
	results, err := h.Prune(ctx, opt)
	list := []items.Pruned{}
	for _, p := range results {
		kept := w.keep.IsZero() || p.Mark != retention.Remove
		mark := p.Mark
		if w.keep.IsZero() && mark == retention.Remove {
			mark = retention.Keep
		}
		t.Logf("%s %s", p.Snapshot, mark)
		if p.Err != nil {
			t.Warnf("failed to remove %s: %v", p.Snapshot, p.Err)
		}
		list = append(list, items.Pruned{
			Type: string(p.Snapshot.Type), ID: p.Snapshot.ID, Time: p.Snapshot.Time,
			Keep: kept, Protected: p.Mark == retention.Protected, NS: p.Snapshot.NS.String(),
		})
	}
	return list, err
}

// where names a datastore and a namespace for people.
func where(store string, ns names.Namespace) string {
	if ns.IsRoot() {
		return fmt.Sprintf("datastore '%s'", store)
	}
	return fmt.Sprintf("datastore '%s', namespace '%s'", store, ns)
}
