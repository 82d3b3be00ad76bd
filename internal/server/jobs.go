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
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// Task is where a job tells what it does.
type Task interface {
	Logf(format string, args ...any)
	Warnf(format string, args ...any)
}

// silent hears and forgets.
type silent struct{}

func (silent) Logf(string, ...any)  {}
func (silent) Warnf(string, ...any) {}

// job is a type of task and what it works on.
type job struct{ typ, worker string }

func (j job) by(auth names.AuthID) tasks.Job {
	return tasks.Job{Type: j.typ, Worker: j.worker, Auth: auth.String()}
}

// StartTask runs f as a task of this server. Its context ends when the task is to
// stop, or the server has waited for it long enough.
func (s *Server) StartTask(j tasks.Job, f func(context.Context, *tasks.Task) error) (upid.UPID, error) {
	t, err := s.tasks.Start(s.life, j, f)
	if err != nil {
		return upid.UPID{}, err
	}
	return t.ID(), nil
}

func (s *Server) start(auth names.AuthID, j job, f func(context.Context, Task) error) (upid.UPID, error) {
	return s.StartTask(j.by(auth), func(ctx context.Context, t *tasks.Task) error { return f(ctx, t) })
}

// using runs f with a datastore.
func (s *Server) using(store string, op stores.Operation, f func(*stores.Handle) error) (err error) {
	h, err := s.stores.Open(store, op)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return f(h)
}

// checkOpen reports why a datastore cannot be used now, for those who would only
// learn it from the log of a task.
func (s *Server) checkOpen(store string, op stores.Operation) error {
	return s.using(store, op, func(*stores.Handle) error { return nil })
}

// StartGC starts a garbage collection. One at a time runs in a datastore.
func (s *Server) StartGC(store string, auth names.AuthID) (upid.UPID, error) {
	s.mu.Lock()
	running := s.collecting[store]
	s.collecting[store] = true
	s.mu.Unlock()
	if running {
		return upid.UPID{}, fmt.Errorf("garbage collection already running: %w", repo.ErrLocked)
	}
	done := func() {
		s.mu.Lock()
		delete(s.collecting, store)
		s.mu.Unlock()
	}
	id, err := s.StartTask(job{"garbage_collection", store}.by(auth), func(ctx context.Context, t *tasks.Task) error {
		defer done()
		return s.using(store, stores.Write, func(h *stores.Handle) error { return collect(ctx, h, t) })
	})
	if err != nil {
		done()
	}
	return id, err
}

func collect(ctx context.Context, h *stores.Handle, t *tasks.Task) error {
	cutoff, err := h.Config.GCCutoff()
	if err != nil {
		return err
	}
	t.Logf("starting garbage collection on store %s", h.Config.Name)
	said := steps{}
	st, err := h.GC(ctx, repo.GCOptions{
		Cutoff: cutoff, SkipAtimeCheck: !h.Config.AtimeCheck(), UPID: t.ID().String(),
		Progress: func(p repo.GCProgress) {
			if n, ok := said.next(p.Phase, p.Done, p.Total); ok {
				t.Logf("%s: %d%% (%d of %d)", gcPhases[p.Phase], n, p.Done, p.Total)
			}
		},
	})
	if err != nil {
		return err
	}
	for _, w := range st.Warnings {
		t.Warnf("%s", w)
	}
	t.Logf("Removed garbage: %d bytes", st.RemovedBytes)
	t.Logf("Removed chunks: %d", st.RemovedChunks)
	if st.PendingBytes > 0 {
		t.Logf("Pending removals: %d bytes (in %d chunks)", st.PendingBytes, st.PendingChunks)
	}
	if st.RemovedBad+st.StillBad > 0 {
		t.Logf("Removed bad chunks: %d, still bad: %d", st.RemovedBad, st.StillBad)
	}
	t.Logf("Original data usage: %d bytes", st.IndexDataBytes)
	t.Logf("On-Disk usage: %d bytes", st.DiskBytes)
	t.Logf("On-Disk chunks: %d", st.DiskChunks)
	if st.DiskBytes > 0 {
		t.Logf("Deduplication factor: %.2f", float64(st.IndexDataBytes)/float64(st.DiskBytes))
	}
	return nil
}

var gcPhases = map[string]string{"mark": "marked", "rewrite": "written anew", "sweep": "processed"}

// steps thins progress out to whole percents that have not been told.
type steps struct {
	phase string
	last  int
}

func (s *steps) next(phase string, done, total int) (percent int, ok bool) {
	if total <= 0 {
		return 0, false
	}
	if phase != s.phase {
		*s = steps{phase, 0}
	}
	percent = done * 100 / total
	if percent <= s.last {
		return percent, false
	}
	s.last = percent
	return percent, true
}

// PruneStore says what of a datastore is pruned.
type PruneStore struct {
	Store  string
	NS     names.Namespace
	Depth  int // levels of namespaces below; -1: all
	Keep   retention.Options
	DryRun bool
	Type   string // of the task; "": prune
	Worker string // of the task; "": store and namespace
	Auth   names.AuthID
	Policy *access.Policy // nil: Auth may prune every group
}

// StartPrune prunes groups in a task.
func (s *Server) StartPrune(p PruneStore) (upid.UPID, error) {
	j := job{p.Type, p.Worker}
	if j.typ == "" {
		j.typ = "prune"
	}
	if j.worker == "" {
		j.worker = fmt.Sprintf("%s:%s", p.Store, p.NS)
	}
	return s.start(p.Auth, j, func(ctx context.Context, t Task) error {
		return s.using(p.Store, stores.Write, func(h *stores.Handle) error { return s.pruneAll(ctx, h, t, p) })
	})
}

func (s *Server) pruneAll(ctx context.Context, h *stores.Handle, t Task, p PruneStore) error {
	all, err := spaces(ctx, h, p.NS, p.Depth)
	if err != nil {
		return err
	}
	for _, ns := range all {
		far := access.Every
		if p.Policy != nil {
			far = p.Policy.Reach(p.Auth, p.Store, ns, access.CallForget)
		}
		groups, err := h.Groups(ctx, ns)
		if err != nil {
			return err
		}
		for _, g := range groups {
			owner, err := names.ParseAuthID(g.Owner)
			if far != access.Every && (err != nil || !far.Covers(p.Auth, owner)) {
				continue
			}
			w := pruneWork{p.Store, ns, g.Group, p.Keep, p.DryRun, s.opt.Location}
			if _, err := w.run(ctx, h, t); err != nil {
				if cerr := context.Cause(ctx); cerr != nil {
					return cerr
				}
				t.Warnf("prune of %s: %v", g.Group, err)
			}
		}
	}
	return nil
}

// spaces is a namespace and those below it, down to a depth.
func spaces(ctx context.Context, h *stores.Handle, ns names.Namespace, depth int) ([]names.Namespace, error) {
	below, err := h.Namespaces(ctx, ns)
	if err != nil {
		return nil, err
	}
	all := []names.Namespace{ns}
	for _, n := range below {
		if depth < 0 || n.Depth()-ns.Depth() <= depth {
			all = append(all, n)
		}
	}
	return all, nil
}

// Verify says what is verified: a snapshot, a group, or a namespace.
type Verify struct {
	Store          string
	NS             names.Namespace
	Group          *names.Group
	Time           int64 // 0: all snapshots of the group
	Depth          int   // levels of namespaces below; -1: all
	IgnoreVerified bool
	OutdatedAfter  time.Duration
	Workers        int
	Type           string // of the task; "": by what is verified
	Worker         string // of the task; "": the same
	Auth           names.AuthID
	Policy         *access.Policy // nil: Auth may verify every group
}

// job names the task of a verification.
func (v Verify) job() job {
	j := job{v.Type, v.Worker}
	typ, worker := "verify", v.Store
	switch {
	case v.Group != nil && v.Time != 0:
		typ, worker = "verify_snapshot", fmt.Sprintf("%s:%s/%s/%08X", v.Store, v.NS.Path(), *v.Group, v.Time)
	case v.Group != nil:
		typ, worker = "verify_group", fmt.Sprintf("%s:%s/%s", v.Store, v.NS.Path(), *v.Group)
	case !v.NS.IsRoot():
		worker = fmt.Sprintf("%s:%s", v.Store, v.NS.Path())
	}
	if j.typ == "" {
		j.typ = typ
	}
	if j.worker == "" {
		j.worker = worker
	}
	return j
}

// StartVerify verifies in a task.
func (s *Server) StartVerify(v Verify) (upid.UPID, error) {
	return s.StartTask(v.job().by(v.Auth), func(ctx context.Context, t *tasks.Task) error {
		return s.using(v.Store, stores.Read, func(h *stores.Handle) error { return verifyAll(ctx, h, t, v) })
	})
}

func verifyAll(ctx context.Context, h *stores.Handle, t *tasks.Task, v Verify) error {
	opt := repo.VerifyOptions{
		Namespace: v.NS, IgnoreVerified: v.IgnoreVerified, OutdatedAfter: v.OutdatedAfter, Workers: v.Workers,
		Group: v.Group, UPID: t.ID().String(), Only: v.only(ctx, h),
	}
	if v.Group != nil && v.Time != 0 {
		opt.Snapshot, opt.Group = &names.Snapshot{NS: v.NS, Group: *v.Group, Time: v.Time}, nil
	}
	failed := 0
	opt.Verdict = func(one repo.VerifiedSnapshot) {
		n := one.Snapshot
		if one.Skipped != "" {
			t.Logf("SKIPPED: %s:%s (%s)", v.Store, n.Path(), one.Skipped)
			return
		}
		t.Logf("verify %s:%s: %s", v.Store, n.Path(), map[bool]string{true: "ok", false: "failed"}[len(one.Errors) == 0])
		for _, err := range one.Errors {
			t.Logf("  %v", err)
		}
		if len(one.Errors) > 0 {
			failed++
		}
	}
	opt.Recursive = v.Group == nil && v.Depth != 0
	rep, err := h.Verify(ctx, opt)
	if err != nil {
		return err
	}
	t.Logf("%s", items.Verified{Snapshots: len(rep.Snapshots), Chunks: rep.Chunks, Bytes: rep.Bytes})
	if failed > 0 {
		return fmt.Errorf("verification failed for %d snapshots - please check the log for details", failed)
	}
	return nil
}

// only says which groups are looked at: those down to the depth and within reach.
func (v Verify) only(ctx context.Context, h *stores.Handle) func(names.Namespace, names.Group) bool {
	return func(ns names.Namespace, g names.Group) bool {
		if v.Depth >= 0 && ns.Depth()-v.NS.Depth() > v.Depth {
			return false
		}
		if v.Policy == nil {
			return true
		}
		far := v.Policy.Reach(v.Auth, v.Store, ns, access.CallVerify)
		if far == access.Every {
			return true
		}
		owner, err := h.Owner(ctx, ns, g)
		return err == nil && far.Covers(v.Auth, owner)
	}
}
