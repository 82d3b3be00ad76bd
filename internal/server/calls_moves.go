package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// moveCalls are the calls that move backups between namespaces, in tasks.
func (s *Server) moveCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "POST", Path: at + "/move-group", Doc: "Move a backup group to another namespace.",
			Guard: api.Custom("Needs Datastore.Modify where the group is and where it goes. For groups of one's own "+
				"Datastore.Prune there and Datastore.Backup here will do.", func(r *api.Request) error {
				store := params.store.Of(r)
				if err := r.Policy.Require(r.Caller, store, params.ns.Of(r), access.CallMoveFrom); err != nil {
					return err
				}
				return r.Policy.Require(r.Caller, store, targetNS.Of(r), access.CallMoveTo)
			}),
			Params: groupParams(targetNS, mergeGroup), Do: api.Data(s.moveGroup),
		},
		{
			Method: "POST", Path: at + "/move-namespace", Doc: "Move what is in a namespace, and in those below it, to another one.",
			Guard: api.Custom("Needs Datastore.Modify on the namespaces above both.", func(r *api.Request) error {
				store := params.store.Of(r)
				if err := r.Policy.Require(r.Caller, store, params.ns.Of(r).Parent(), access.CallNamespace); err != nil {
					return err
				}
				return r.Policy.Require(r.Caller, store, targetNS.Of(r).Parent(), access.CallNamespace)
			}),
			Params: storeParams(targetNS, params.depth.Optional(), deleteSource, mergeGroups), Do: api.Data(s.moveNamespace),
		},
	}
}

var (
	targetNS     = params.ns.As("target-ns", "The namespace that it goes to; empty is the root.")
	mergeGroup   = api.Bool("merge-group", "Let the snapshots join a group of the same name and owner, if all are newer.").Default(true)
	mergeGroups  = mergeGroup.As("merge-groups", "Let snapshots join groups of the same name and owner, if all are newer.")
	deleteSource = api.Bool("delete-source", "Remove namespaces that have become empty.").Default(true)
)

func (s *Server) moveGroup(ctx context.Context, r *api.Request) (string, error) {
	store, from, g, to, merge := params.store.Of(r), params.ns.Of(r), groupOf(r), targetNS.Of(r), mergeGroup.Of(r)
	err := s.withStore(r, stores.Write, func(h *stores.Handle) error {
		if from == to {
			return errors.New("source and target namespace must be different")
		}
		for ns, c := range map[names.Namespace]access.Call{from: access.CallMoveFrom, to: access.CallMoveTo} {
			if err := checkOwner(ctx, r, h, from, g, r.Policy.Reach(r.Caller, store, ns, c)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	id, err := s.start(r.Caller, job{"move-group", fmt.Sprintf("%s:%s/%s:%s", store, from, g, to)}, func(ctx context.Context, t Task) error {
		t.Logf("moving group '%s' from '%s' to '%s'", g, from, to)
		return s.using(store, stores.Write, func(h *stores.Handle) error { return h.MoveGroup(ctx, from, g, to, merge) })
	})
	return id.String(), err
}

func (s *Server) moveNamespace(_ context.Context, r *api.Request) (string, error) {
	store, from := params.store.Of(r), params.ns.Of(r)
	opt := repo.MoveNamespaceOptions{To: targetNS.Of(r), Depth: -1, Merge: mergeGroups.Of(r), KeepSource: !deleteSource.Of(r)}
	if n, limited := params.depth.Given(r); limited {
		opt.Depth = int(n)
	}
	if err := s.checkOpen(store, stores.Write); err != nil {
		return "", err
	}
	id, err := s.start(r.Caller, job{"move-namespace", fmt.Sprintf("%s:%s:%s", store, from, opt.To)}, func(ctx context.Context, t Task) error {
		t.Logf("moving namespace '%s' to '%s'", from, opt.To)
		return s.using(store, stores.Write, func(h *stores.Handle) error { return h.MoveNamespace(ctx, from, opt) })
	})
	return id.String(), err
}
