package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

// changeCalls are the calls that change groups, snapshots and namespaces.
func (s *Server) changeCalls() []api.Call {
	const at = "/admin/datastore/{store}"
	return []api.Call{
		{
			Method: "DELETE", Path: at + "/snapshots", Doc: "Remove a snapshot.",
			Guard: content(access.CallForget), Params: snapParams(), Do: api.Nothing(s.forget),
		},
		{
			Method: "DELETE", Path: at + "/groups", Doc: "Remove a backup group with its snapshots.",
			Guard: content(access.CallForget), Params: groupParams(params.onProt), Do: api.Data(s.forgetGroup),
		},
		{
			Method: "GET", Path: at + "/notes", Doc: "Show the notes of a snapshot.",
			Guard: content(access.CallNotes), Params: snapParams(), Do: api.Data(s.notes),
		},
		{
			Method: "PUT", Path: at + "/notes", Doc: "Change the notes of a snapshot.",
			Guard: content(access.CallSetNotes), Params: snapParams(notes), Do: api.Nothing(s.setNotes),
		},
		{
			Method: "GET", Path: at + "/group-notes", Doc: "Show the notes of a backup group.",
			Guard: content(access.CallNotes), Params: groupParams(), Do: api.Data(s.groupNotes),
		},
		{
			Method: "PUT", Path: at + "/group-notes", Doc: "Change the notes of a backup group.",
			Guard: content(access.CallSetNotes), Params: groupParams(notes), Do: api.Nothing(s.setGroupNotes),
		},
		{
			Method: "GET", Path: at + "/protected", Doc: "Show whether a snapshot is protected from removal.",
			Guard: content(access.CallNotes), Params: snapParams(), Do: api.Data(s.isProtected),
		},
		{
			Method: "PUT", Path: at + "/protected", Doc: "Protect a snapshot from removal, or take that back.",
			Guard: content(access.CallSetNotes), Params: snapParams(protect), Do: api.Nothing(s.setProtected),
		},
		{
			Method: "POST", Path: at + "/change-owner", Doc: "Give a backup group to another owner.",
			Guard:  api.LoggedIn("Needs Datastore.Modify on /datastore/{store}[/{ns}]; with Datastore.Backup users may pass groups around between themselves and their API tokens."),
			Params: groupParams(newOwner), Do: api.Nothing(s.changeOwner),
		},
		{
			Method: "POST", Path: at + "/namespace", Doc: "Make a namespace.",
			Guard:  api.Content(params.store, parent, access.CallNamespace),
			Params: []api.AnyParam{params.store, parent, nsName}, Do: api.Data(s.makeNamespace),
		},
		{
			Method: "DELETE", Path: at + "/namespace", Doc: "Remove a namespace, with those below it.",
			Guard: api.Custom("Needs Datastore.Modify on the namespace above.", func(r *api.Request) error {
				return r.Policy.Require(r.Caller, params.store.Of(r), params.ns.Of(r).Parent(), access.CallNamespace)
			}),
			Params: storeParams(withGroups, params.onProt), Do: api.Data(s.removeNamespace),
		},
		{
			Method: "POST", Path: at + "/upload-backup-log", Doc: "Store the log of a backup beside its snapshot.",
			Guard: content(access.CallUploadLog), Params: snapParams(), Do: api.Nothing(s.uploadLog).WithBody(),
		},
	}
}

var (
	notes      = api.Text("notes", "Text of any number of lines.", maxNotes)
	protect    = api.Bool("protected", "Whether it is to be protected.")
	newOwner   = params.auth.As("new-owner", "The user or API token that the group is to belong to.")
	nsName     = api.Parsed("name", "The name, without those above.", safeID, 255, func(s string) (string, error) { _, err := names.Root.Child(s); return s, err })
	withGroups = api.Bool("delete-groups", "Remove the backup groups in it as well.").Default(false)
)

func (s *Server) forget(ctx context.Context, r *api.Request) error {
	return s.withGroup(ctx, r, access.CallForget, stores.Write, func(h *stores.Handle) error { return h.Forget(ctx, snapOf(r)) })
}

func (s *Server) forgetGroup(ctx context.Context, r *api.Request) (d items.Deleted, err error) {
	err = s.withGroup(ctx, r, access.CallForget, stores.Write, func(h *stores.Handle) error {
		res, err := h.ForgetGroup(ctx, params.ns.Of(r), groupOf(r))
		count(&d, res)
		if err == nil && res.Protected > 0 && params.onProt.Of(r) {
			err = fmt.Errorf("group only partially deleted due to protected snapshots: %w", repo.ErrProtected)
		}
		return err
	})
	return d, err
}

func count(d *items.Deleted, res repo.ForgetGroupResult) {
	d.Snapshots += res.Removed
	d.Protected += res.Protected
	if res.Protected == 0 {
		d.Groups++
	}
}

func (s *Server) notes(ctx context.Context, r *api.Request) (text string, err error) {
	err = s.withGroup(ctx, r, access.CallNotes, stores.Read, func(h *stores.Handle) error {
		snap, err := h.Open(ctx, snapOf(r))
		if err != nil {
			return err
		}
		text = snap.Manifest().Notes()
		return snap.Close()
	})
	return text, err
}

func (s *Server) setNotes(ctx context.Context, r *api.Request) error {
	return s.withGroup(ctx, r, access.CallSetNotes, stores.Write, func(h *stores.Handle) error {
		return h.SetNotes(ctx, snapOf(r), notes.Of(r))
	})
}

func (s *Server) groupNotes(ctx context.Context, r *api.Request) (text string, err error) {
	err = s.withGroup(ctx, r, access.CallNotes, stores.Read, func(h *stores.Handle) (err error) {
		text, err = h.GroupNotes(ctx, params.ns.Of(r), groupOf(r))
		return err
	})
	return text, err
}

func (s *Server) setGroupNotes(ctx context.Context, r *api.Request) error {
	return s.withGroup(ctx, r, access.CallSetNotes, stores.Write, func(h *stores.Handle) error {
		return h.SetGroupNotes(ctx, params.ns.Of(r), groupOf(r), notes.Of(r))
	})
}

func (s *Server) isProtected(ctx context.Context, r *api.Request) (yes bool, err error) {
	err = s.withGroup(ctx, r, access.CallNotes, stores.Read, func(h *stores.Handle) (err error) {
		yes, err = h.Protected(ctx, snapOf(r))
		return err
	})
	return yes, err
}

func (s *Server) setProtected(ctx context.Context, r *api.Request) error {
	return s.withGroup(ctx, r, access.CallSetNotes, stores.Write, func(h *stores.Handle) error {
		return h.SetProtected(ctx, snapOf(r), protect.Of(r))
	})
}

func (s *Server) changeOwner(ctx context.Context, r *api.Request) error {
	store, ns, to := params.store.Of(r), params.ns.Of(r), newOwner.Of(r)
	const mayAsk = access.DatastoreModify | access.DatastoreBackup
	if err := r.Policy.RequireAny(r.Caller, access.StorePath(store, ns), mayAsk); err != nil {
		return err
	}
	return s.withStore(r, stores.Write, func(h *stores.Handle) error {
		from, err := h.Owner(ctx, ns, groupOf(r))
		if err != nil {
			return err
		}
		if !r.Policy.MayChangeOwner(r.Caller, store, ns, from, to) {
			return rest.Errorf(http.StatusUnauthorized, "%s does not have permission to change owner of backup group '%s' to %s", r.Caller, groupOf(r), to)
		}
		if err := r.Policy.Active(to, s.now()); err != nil {
			return fmt.Errorf("user '%s' does not exist or is not active", to)
		}
		return h.SetOwner(ctx, ns, groupOf(r), to.String())
	})
}

func (s *Server) makeNamespace(ctx context.Context, r *api.Request) (name string, err error) {
	ns, err := parent.Of(r).Child(nsName.Of(r))
	if err != nil {
		return "", err
	}
	err = s.withStore(r, stores.Write, func(h *stores.Handle) error { return h.CreateNamespace(ctx, ns) })
	return ns.String(), err
}

// removeNamespace removes what is in a namespace and below it, as far as it may
// go, and then the namespaces.
func (s *Server) removeNamespace(ctx context.Context, r *api.Request) (d items.Deleted, err error) {
	ns := params.ns.Of(r)
	if ns.IsRoot() {
		return d, errors.New("cannot delete root namespace")
	}
	err = s.withStore(r, stores.Write, func(h *stores.Handle) error {
		all, err := h.Namespaces(ctx, ns)
		if err != nil {
			return err
		}
		if withGroups.Of(r) {
			for _, n := range append(all, ns) {
				if err := forgetGroups(ctx, h, n, &d); err != nil {
					return err
				}
			}
		}
		if d.Protected > 0 {
			if params.onProt.Of(r) {
				return fmt.Errorf("namespace only partially deleted due to %d protected snapshots: %w", d.Protected, repo.ErrProtected)
			}
			return nil
		}
		return h.DeleteNamespace(ctx, ns, false)
	})
	return d, err
}

func forgetGroups(ctx context.Context, h *stores.Handle, ns names.Namespace, d *items.Deleted) error {
	groups, err := h.Groups(ctx, ns)
	if err != nil {
		return err
	}
	for _, g := range groups {
		res, err := h.ForgetGroup(ctx, ns, g.Group)
		count(d, res)
		if err != nil {
			return err
		}
	}
	return nil
}

// uploadLog takes the log as an encoded blob.
func (s *Server) uploadLog(ctx context.Context, r *api.Request) error {
	return s.withGroup(ctx, r, access.CallUploadLog, stores.Write, func(h *stores.Handle) error {
		const most = blob.MaxChunk + blob.EncryptedHeaderSize
		raw, err := io.ReadAll(io.LimitReader(r.HTTP.Body, most+1))
		if err != nil {
			return rest.Errorf(http.StatusBadRequest, "problems reading request body: %w", err)
		}
		if len(raw) > most {
			return rest.Errorf(http.StatusBadRequest, "request body too large: a log has at most %d bytes", most)
		}
		err = h.PutLog(ctx, snapOf(r), raw)
		if errors.Is(err, repo.ErrExists) {
			return fmt.Errorf("backup already contains a log: %w", err)
		}
		return err
	})
}

// attachment is a header that gives a download a file name.
func attachment(name string) string {
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' || strings.ContainsRune(`"\/;`, c) {
			return '_'
		}
		return c
	}, name)
	return `attachment; filename="` + clean + `"`
}
