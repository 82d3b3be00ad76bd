package server

import (
	"context"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/metrics"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// metricsCalls are what Prometheus asks.
func (s *Server) metricsCalls() []api.Call {
	return []api.Call{{
		Method: "GET", Path: "/metrics", Doc: "Show the figures of the server to Prometheus.",
		Guard: api.Where("/system/status", access.SysAudit), Do: api.Stream("text/plain", s.metrics),
	}}
}

// metrics answers with the figures of all datastores that the caller may see into.
func (s *Server) metrics(w http.ResponseWriter, r *api.Request) error {
	configs, err := s.stores.List()
	if err != nil {
		return err
	}
	var f metrics.Figures
	sees := map[string]bool{}
	for _, c := range configs {
		if r.Policy.RequireAny(r.Caller, access.Path("/datastore/"+c.Name), access.DatastoreAudit) == nil {
			sees[c.Name] = true
			f.Stores = append(f.Stores, s.storeFigures(r.HTTP.Context(), c.Name))
		}
	}
	if f.Jobs, err = s.jobFigures(sees); err != nil {
		return err
	}
	list, _, err := s.tasks.List(tasks.Filter{Running: true})
	if err != nil {
		return err
	}
	f.Running = map[string]int{}
	for _, t := range list {
		f.Running[t.ID.Type]++
	}
	s.mu.Lock()
	for _, n := range s.sessions {
		f.Sessions += n
	}
	s.mu.Unlock()
	s.figures.Serve(w, r.HTTP, f)
	return nil
}

// storeFigures reads those of a datastore; one that cannot be read is not up.
func (s *Server) storeFigures(ctx context.Context, name string) metrics.Store {
	m := metrics.Store{Name: name}
	err := s.using(name, stores.Read, func(h *stores.Handle) (err error) {
		if m.Usage, err = h.Usage(ctx); err != nil {
			return err
		}
		if t, ok := h.Traffic(); ok {
			m.Traffic = &t
		}
		all, err := spaces(ctx, h, names.Root, -1)
		if err != nil {
			return err
		}
		for _, ns := range all {
			groups, err := h.Groups(ctx, ns)
			if err != nil {
				return err
			}
			m.Groups = append(m.Groups, groups...)
		}
		if m.GC, err = h.LastGC(ctx); err != nil {
			return err
		}
		if id, err := upid.Parse(m.GC.UPID); err == nil {
			m.GCTime = id.Start()
		}
		return nil
	})
	if err != nil {
		s.log.Debug("a datastore has no figures", "store", name, "error", err)
	}
	m.Up = err == nil
	return m
}

func (s *Server) jobFigures(sees map[string]bool) (list []metrics.Job, err error) {
	all, err := jobs.Load(s.opt.Config)
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if !sees[j.Store] {
			continue
		}
		st, ok, err := s.schedule.States.Load(j.Key())
		if err != nil {
			return nil, err
		}
		m := metrics.Job{Kind: j.Kind.Word(), ID: j.ID, Store: j.Store}
		if ok && !st.UPID.IsZero() {
			m.Start = st.UPID.Start()
		}
		if ok && st.End != nil {
			m.Ended, m.OK = true, st.End.Kind == tasks.OK || st.End.Kind == tasks.Warned
		}
		list = append(list, m)
	}
	return list, nil
}
