package server

import (
	"context"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// storeCalls are the calls about datastores as a whole.
func (s *Server) storeCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "GET", Path: "/admin/datastore", Doc: "List datastores.",
			Guard: api.LoggedIn("The answer has the datastores in which one may do anything."), Do: api.Data(s.listStores),
		},
		{
			Method: "GET", Path: at + "/status", Doc: "Show how full a datastore is.",
			Guard:  api.LoggedIn("With Datastore.Audit or Datastore.Backup on the datastore the answer is the truth; with any privilege in it, zeros."),
			Params: []api.AnyParam{params.store, verbose}, Do: api.Data(s.storeStatus),
		},
		{
			Method: "GET", Path: at + "/active-operations", Doc: "Count what uses a datastore now.",
			Guard: api.Where("/datastore/{store}", access.DatastoreAudit), Params: []api.AnyParam{params.store}, Do: api.Data(s.activeOperations),
		},
		{
			Method: "GET", Path: "/status/datastore-usage", Doc: "Show how full all datastores are, were, and when they will be.",
			Guard: api.LoggedIn("The answer has the datastores in which one may do anything."), Do: api.Data(s.usages),
		},
	}
}

var verbose = api.Bool("verbose", "Count snapshots, and show the last garbage collection.").Default(false)

func (s *Server) listStores(_ context.Context, r *api.Request) ([]items.Store, error) {
	configs, err := s.stores.List()
	list := []items.Store{}
	for _, c := range configs {
		if r.Policy.SeesStore(r.Caller, c.Name) {
			list = append(list, storeItem(c))
		}
	}
	return list, err
}

func storeItem(c stores.Config) items.Store {
	item := items.Store{Store: c.Name, MountStatus: c.MountStatus(), Maintenance: c.Maintenance.Type, BackendType: c.BackendType()}
	if c.Comment != "" {
		item.Comment = &c.Comment
	}
	return item
}

func (s *Server) storeStatus(ctx context.Context, r *api.Request) (st items.Status, err error) {
	ask, truth := r.Policy.SeesUsage(r.Caller, params.store.Of(r))
	if !ask {
		return st, rest.Errorf(http.StatusForbidden, "permission check failed")
	}
	err = s.withStore(r, stores.Read, func(h *stores.Handle) error {
		st.BackendType = h.Config.BackendType()
		if truth {
			u, err := h.Usage(ctx)
			if err != nil {
				return err
			}
			st.Total, st.Used, st.Avail = u.Total, u.Used, u.Available
		}
		if !verbose.Of(r) {
			return nil
		}
		if truth {
			last, err := h.LastGC(ctx)
			if err != nil {
				return err
			}
			gc := items.GCOf(last)
			st.GC = &gc
		}
		st.Counts, err = countSnapshots(ctx, r, h)
		return err
	})
	return st, err
}

// countSnapshots counts what the caller may see of a datastore.
func countSnapshots(ctx context.Context, r *api.Request, h *stores.Handle) (*items.Counts, error) {
	spaces, err := h.Namespaces(ctx, names.Root)
	if err != nil {
		return nil, err
	}
	c := new(items.Counts)
	by := map[names.BackupType]**items.Count{names.CT: &c.CT, names.Host: &c.Host, names.VM: &c.VM}
	for _, ns := range append(spaces, names.Root) {
		far := max(r.Policy.Reach(r.Caller, params.store.Of(r), ns, access.CallFiles), r.Policy.Reach(r.Caller, params.store.Of(r), ns, access.CallList))
		if far == access.None {
			continue
		}
		groups, err := h.Groups(ctx, ns)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			if g.Count == 0 || !covers(r, far, g.Owner) {
				continue
			}
			n := by[g.Group.Type]
			if *n == nil {
				*n = new(items.Count)
			}
			(*n).Groups++
			(*n).Snapshots += g.Count
		}
	}
	return c, nil
}

// activeItem is how many work in a datastore.
type activeItem struct {
	Read  int `json:"read"`
	Write int `json:"write"`
}

func (s *Server) activeOperations(_ context.Context, r *api.Request) (activeItem, error) {
	if _, err := s.stores.Find(params.store.Of(r)); err != nil {
		return activeItem{}, err
	}
	reading, writing := s.stores.Active(params.store.Of(r))
	return activeItem{reading, writing}, nil
}

func (s *Server) usages(ctx context.Context, r *api.Request) ([]items.Usage, error) {
	configs, err := s.stores.List()
	list := []items.Usage{}
	for _, c := range configs {
		if !r.Policy.SeesStore(r.Caller, c.Name) {
			continue
		}
		u := items.Usage{Store: c.Name, MountStatus: c.MountStatus(), BackendType: c.BackendType()}
		if _, truth := r.Policy.SeesUsage(r.Caller, c.Name); truth && u.MountStatus != "notmounted" {
			if err := s.fillUsage(ctx, c.Name, &u); err != nil {
				u.Error = err.Error()
			}
		}
		list = append(list, u)
	}
	return list, err
}

// fillUsage puts the figures of a datastore into an item.
func (s *Server) fillUsage(ctx context.Context, store string, u *items.Usage) error {
	h, err := s.stores.Open(store, stores.Read)
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }() // was only looked at
	now, err := h.Usage(ctx)
	if err != nil {
		return err
	}
	last, err := h.LastGC(ctx)
	if err != nil {
		return err
	}
	gc := items.GCOf(last)
	u.Total, u.Used, u.Avail, u.GC = &now.Total, &now.Used, &now.Available, &gc
	past, err := s.usage.Read(store)
	if err != nil || len(past.Values) == 0 {
		return err
	}
	u.History, u.HistoryStart, u.HistoryDelta = past.Values, &past.Start, &past.Step
	if full, ok := past.Full(); ok {
		u.EstimatedFull = &full
	}
	return nil
}
