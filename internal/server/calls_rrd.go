package server

import (
	"context"
	"maps"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/history"
)

// historyCalls are the calls with the figures of graphs.
func (s *Server) historyCalls() []api.Call {
	return []api.Call{
		{
			Method: "GET", Path: "/admin/datastore/{store}/rrd", Doc: "Show how full a datastore was.",
			Guard: api.Where("/datastore/{store}", access.DatastoreAudit|access.DatastoreBackup), Params: []api.AnyParam{params.store, timeFrame, consolidate},
			Do: api.Data(func(_ context.Context, r *api.Request) ([]map[string]any, error) {
				if _, err := s.stores.Find(params.store.Of(r)); err != nil {
					return nil, err
				}
				return s.graph(r, storeSeries(params.store.Of(r)))
			}),
		},
		{
			Method: "GET", Path: "/nodes/{node}/rrd", Doc: "Show how the machine was doing.",
			Guard: api.Where("/system/status", access.SysAudit), Params: []api.AnyParam{params.node, timeFrame, consolidate},
			Do: api.Data(func(_ context.Context, r *api.Request) ([]map[string]any, error) { return s.graph(r, nodeSeries) }),
		},
	}
}

var (
	timeFrame   = api.Choice("timeframe", "How far back.", history.Hour, history.Day, history.Week, history.Month, history.Year, history.Decade)
	consolidate = api.Choice("cf", "The averages of spans of time, or the greatest values.", "AVERAGE", "MAX").Default("AVERAGE")
)

// nodeSeries is the name of the figures of the machine; datastores cannot have it.
const nodeSeries = "node"

func storeSeries(store string) string { return "datastore-" + store }

// graph lists figures, each with the time at which its span began.
func (s *Server) graph(r *api.Request, series string) ([]map[string]any, error) {
	points, err := s.history.Read(series, timeFrame.Of(r), consolidate.Of(r) == "MAX")
	list := []map[string]any{}
	for _, p := range points {
		item := map[string]any{"time": p.Time}
		for name, v := range maps.All(p.Figures) {
			item[name] = v
		}
		list = append(list, item)
	}
	return list, err
}
