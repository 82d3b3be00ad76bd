package server

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// syncCalls are the calls that copy snapshots once.
func (s *Server) syncCalls() []api.Call {
	var list []api.Call
	for _, c := range []struct{ direction, doc, need string }{
		{"pull", "Copy snapshots here, from another server or another datastore of this one. The task is the answer.", needPull},
		{"push", "Copy snapshots away, to another server or another datastore of this one. The task is the answer.", needPush},
	} {
		can := onceFields(c.direction)
		list = append(list, api.Call{
			Method: "POST", Path: "/" + c.direction, Doc: c.doc, Guard: api.LoggedIn(sections.Sentence(c.need)), Params: can.Params(),
			Do: api.Data(func(_ context.Context, r *api.Request) (string, error) {
				return s.syncOnce(r, c.direction, can.Values(r))
			}),
		})
	}
	return list
}

// onceFields are the properties of sync jobs that say what is copied, without those
// that say when and in whose name: that of the caller.
func onceFields(direction string) sections.Fields {
	var some []property.Property
	for _, p := range jobs.Properties(jobs.Sync) {
		switch p.Key {
		case "schedule", "comment", "sync-direction", "owner":
			continue
		case "resync-corrupt":
			if direction == "push" {
				continue
			}
		}
		some = append(some, p)
	}
	return sections.Of(some, true)
}

func (s *Server) syncOnce(r *api.Request, direction string, v property.Values) (string, error) {
	v["owner"], v["sync-direction"] = []string{r.Caller.String()}, []string{direction}
	j, err := jobs.Once(jobs.Sync, direction, v)
	if err != nil {
		return "", err
	}
	if err := maySync(r.Policy, r.Caller, j); err != nil {
		return "", err
	}
	if _, err := s.stores.Find(j.Store); err != nil {
		return "", err
	}
	id, err := s.startSync(j, tasks.Job{Type: "sync", Worker: j.Store, Auth: r.Caller.String()})
	return id.String(), err
}
