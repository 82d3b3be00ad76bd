package server

import (
	"context"
	"errors"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// listers is how many snapshots are looked at at a time.
const listers = 16

// listCalls are the calls that show what is in a datastore.
func (s *Server) listCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "GET", Path: at + "/groups", Doc: "List backup groups.",
			Guard: content(access.CallList), Params: storeParams(), Do: api.Data(s.groups),
		},
		{
			Method: "GET", Path: at + "/snapshots", Doc: "List snapshots.",
			Guard: content(access.CallList), Params: storeParams(params.typ.Optional(), params.id.Optional()), Do: api.Data(s.snapshots),
		},
		{
			Method: "GET", Path: at + "/files", Doc: "List the files of a snapshot.",
			Guard: content(access.CallFiles), Params: snapParams(), Do: api.Data(s.files),
		},
		{
			Method: "GET", Path: at + "/namespace", Doc: "List namespaces.",
			Guard:  api.LoggedIn("The answer has the namespaces in which one may do anything."),
			Params: []api.AnyParam{params.store, parent, params.depth.Optional()}, Do: api.Data(s.namespaces),
		},
	}
}

var parent = params.ns.As("parent", "The namespace above; empty is the root.")

func (s *Server) groups(ctx context.Context, r *api.Request) (list []items.Group, err error) {
	list = []items.Group{}
	err = s.withStore(r, stores.Read, func(h *stores.Handle) error {
		infos, err := h.Groups(ctx, params.ns.Of(r))
		if err != nil {
			return err
		}
		far := reach(r, access.CallList)
		for _, g := range infos {
			if g.Owner == "" || !covers(r, far, g.Owner) {
				continue // as in PBS, a group of nobody is not shown
			}
			list = append(list, groupItem(g))
		}
		return nil
	})
	return list, err
}

func groupItem(g repo.GroupInfo) items.Group {
	item := items.Group{
		Type: string(g.Group.Type), ID: g.Group.ID, Count: g.Count, Files: g.Files, Owner: g.Owner, Comment: g.Comment,
	}
	if g.Count > 0 {
		item.LastBackup = g.LastBackup.Unix()
	}
	if item.Files == nil {
		item.Files = []string{}
	}
	return item
}

func (s *Server) snapshots(ctx context.Context, r *api.Request) (list []items.Snapshot, err error) {
	err = s.withStore(r, stores.Read, func(h *stores.Handle) error {
		infos, err := someSnapshots(ctx, r, h)
		if err != nil {
			return err
		}
		list = make([]items.Snapshot, len(infos))
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(listers)
		gone := make([]bool, len(infos))
		for i, info := range infos {
			eg.Go(func() error {
				var err error
				stored := info.Stored
				if stored == nil {
					stored, err = h.StoredFiles(ctx, info.Snapshot)
				}
				if errors.Is(err, repo.ErrNotFound) {
					gone[i] = true
					return nil
				}
				list[i] = snapshotItem(info, stored)
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		i := 0
		list = slices.DeleteFunc(list, func(items.Snapshot) bool { i++; return gone[i-1] })
		return nil
	})
	return list, err
}

// someSnapshots are those that a request asks for and its caller may see.
func someSnapshots(ctx context.Context, r *api.Request, h *stores.Handle) ([]repo.SnapshotInfo, error) {
	ns := params.ns.Of(r)
	typ, hasType := params.typ.Given(r)
	id, hasID := params.id.Given(r)
	var group *names.Group
	if hasType && hasID {
		group = &names.Group{Type: typ, ID: id}
	}
	infos, err := h.Snapshots(ctx, ns, group)
	if errors.Is(err, repo.ErrNotFound) && group != nil {
		// A group that is not there has no snapshots; a namespace is missing.
		_, err = h.Namespaces(ctx, ns)
	}
	if err != nil {
		return nil, err
	}
	far := reach(r, access.CallList)
	return slices.DeleteFunc(infos, func(i repo.SnapshotInfo) bool {
		return hasType && i.Snapshot.Type != typ || hasID && i.Snapshot.ID != id || i.Owner == "" || !covers(r, far, i.Owner)
	}), nil
}

func snapshotItem(info repo.SnapshotInfo, stored []repo.StoredFile) items.Snapshot {
	n := info.Snapshot
	item := items.Snapshot{
		Type: string(n.Type), ID: n.ID, Time: n.Time, Fingerprint: info.Fingerprint,
		Files: []items.File{}, Owner: info.Owner, Protected: info.Protected,
	}
	item.Comment, _, _ = strings.Cut(info.Notes, "\n")
	if v := info.Verify; v != nil {
		item.Verification = &items.Verification{UPID: v.UPID, State: v.State}
	}
	// Without a size the backup is not finished, or what it holds cannot be told.
	if info.Finished && info.Problem == nil {
		item.Files = fileItems(info.Files, info.Signed, stored)
		var sum uint64
		for _, f := range item.Files {
			if f.Size != nil {
				sum += *f.Size
			}
		}
		item.Size = &sum
		return item
	}
	for _, f := range stored {
		item.Files = append(item.Files, items.File{Name: f.Name.String()})
	}
	return item
}

// fileItems lists the files of the manifest, the manifest, and the others.
func fileItems(listed []manifest.File, signed bool, stored []repo.StoredFile) []items.File {
	list := []items.File{}
	known := map[string]bool{names.Manifest.String(): true}
	for _, f := range listed {
		known[f.Filename] = true
		size := f.Size
		list = append(list, items.File{Name: f.Filename, CryptMode: string(f.CryptMode), Size: &size})
	}
	for _, f := range stored {
		if f.Name == names.Manifest {
			mode, size := manifest.ModeNone, uint64(f.Size)
			if signed {
				mode = manifest.ModeSignOnly
			}
			list = append(list, items.File{Name: f.Name.String(), CryptMode: string(mode), Size: &size})
		}
	}
	for _, f := range stored {
		if !known[f.Name.String()] {
			list = append(list, items.File{Name: f.Name.String()})
		}
	}
	return list
}

func (s *Server) files(ctx context.Context, r *api.Request) (list []items.File, err error) {
	err = s.withGroup(ctx, r, access.CallFiles, stores.Read, func(h *stores.Handle) (err error) {
		snap, err := h.Open(ctx, snapOf(r))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, snap.Close()) }()
		stored, err := h.StoredFiles(ctx, snap.Name())
		if err != nil {
			return err
		}
		m := snap.Manifest()
		list = fileItems(m.Files, m.Signed(), stored)
		return nil
	})
	return list, err
}

func (s *Server) namespaces(ctx context.Context, r *api.Request) (list []items.Namespace, err error) {
	store, above := params.store.Of(r), parent.Of(r)
	sees := func(ns names.Namespace) bool {
		return r.Policy.Reach(r.Caller, store, ns, access.CallSeeNamespace) != access.None
	}
	err = s.withStore(r, stores.Read, func(h *stores.Handle) error {
		all, err := h.Namespaces(ctx, above)
		if err != nil && (sees(above) || !errors.Is(err, repo.ErrNotFound)) {
			return err
		}
		deep, limited := params.depth.Given(r)
		for _, ns := range append([]names.Namespace{above}, all...) {
			if limited && int64(ns.Depth()-above.Depth()) > deep || !sees(ns) {
				continue
			}
			list = append(list, items.Namespace{NS: ns.String()})
		}
		if len(list) == 0 { // nothing to see: nobody learns here whether it exists
			return r.Policy.Require(r.Caller, store, above, access.CallSeeNamespace)
		}
		return nil
	})
	return list, err
}
