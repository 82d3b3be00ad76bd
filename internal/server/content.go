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

// withStore runs f with the datastore of a request.
func (s *Server) withStore(r *api.Request, op stores.Operation, f func(*stores.Handle) error) (err error) {
	h, err := s.stores.Open(params.store.Of(r), op)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	return f(h)
}

// withGroup is withStore for a call on the group that a request names. Where the
// caller's privileges reach its own groups only, the group must be one of them.
func (s *Server) withGroup(ctx context.Context, r *api.Request, c access.Call, op stores.Operation, f func(*stores.Handle) error) error {
	return s.withStore(r, op, func(h *stores.Handle) error {
		ns, g := params.ns.Of(r), groupOf(r)
		if err := checkOwner(ctx, r, h, ns, g, reach(r, c)); err != nil {
			return err
		}
		return f(h)
	})
}

// reach is how far a call of the caller reaches in the namespace of a request.
func reach(r *api.Request, c access.Call) access.Reach {
	return r.Policy.Reach(r.Caller, params.store.Of(r), params.ns.Of(r), c)
}

func checkOwner(ctx context.Context, r *api.Request, h *stores.Handle, ns names.Namespace, g names.Group, reach access.Reach) error {
	if reach == access.Every {
		return nil
	}
	owner, err := h.Owner(ctx, ns, g)
	if err != nil {
		return err
	}
	if !reach.Covers(r.Caller, owner) {
		return fmt.Errorf("backup owner check failed (%s != %s): %w", r.Caller, owner, repo.ErrOwner)
	}
	return nil
}

// covers reports whether a group of an owner, as a listing names it, is within
// reach. A group of nobody is for those who reach every group.
func covers(r *api.Request, reach access.Reach, owner string) bool {
	if reach == access.Every {
		return true
	}
	id, err := names.ParseAuthID(owner)
	return err == nil && reach.Covers(r.Caller, id)
}
