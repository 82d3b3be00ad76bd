package server

import (
	"context"
	"errors"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
)

// remoteCalls are the calls about other servers.
func (s *Server) remoteCalls() []api.Call {
	const at, one = "/config/remote", "/config/remote/{name}"
	see := api.Where("/remote/{name}", access.RemoteAudit)
	change := api.Where("/remote/{name}", access.RemoteModify)
	return []api.Call{
		{
			Method: "GET", Path: at, Doc: "List other servers, without their passwords.",
			Guard: api.LoggedIn("Those with Remote.Audit on /remote/{name}."), Do: api.Data(s.listRemotes),
		},
		{
			Method: "POST", Path: at, Doc: "Add another server.", Guard: api.Where("/remote", access.RemoteModify),
			Params: append([]api.AnyParam{remoteName, remotePassword}, newRemote.Params()...),
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				p := remotePassword.Of(r)
				return jobs.SetRemote(ctx, s.opt.Config, remoteName.Of(r), "", true, newRemote.Values(r), &p)
			}),
		},
		{Method: "GET", Path: one, Doc: "Show another server, without its password.", Guard: see, Params: []api.AnyParam{remoteName}, Do: api.Data(s.showRemote)},
		{
			Method: "PUT", Path: one, Doc: "Change another server.", Guard: change,
			Params: append([]api.AnyParam{remoteName, remotePassword.Optional(), deleteRemoteProps, params.digest}, oldRemote.Params()...),
			Do:     api.Nothing(s.changeRemote),
		},
		{
			Method: "DELETE", Path: one, Doc: "Forget another server, which no sync job may name.", Guard: change,
			Params: []api.AnyParam{remoteName, params.digest},
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return jobs.RemoveRemote(ctx, s.opt.Config, remoteName.Of(r), params.digest.Of(r))
			}),
		},
		{
			Method: "GET", Path: one + "/scan", Doc: "List the datastores that another server shows us.", Guard: see,
			Params: []api.AnyParam{remoteName}, Do: api.Data(s.scanStores),
		},
		{
			Method: "GET", Path: one + "/scan/{store}/namespaces", Doc: "List the namespaces of a datastore of another server.", Guard: see,
			Params: []api.AnyParam{remoteName, params.store}, Do: api.Data(s.scanNamespaces),
		},
		{
			Method: "GET", Path: one + "/scan/{store}/groups", Doc: "List the backup groups of a datastore of another server.", Guard: see,
			Params: []api.AnyParam{remoteName, params.store, scanNS}, Do: api.Data(s.scanGroups),
		},
	}
}

var (
	remoteName        = api.Match("name", "The other server.", safeID, 32)
	remotePassword    = passwordParam("password", "The password there, or the secret of the API token.")
	newRemote         = sections.Of(jobs.RemoteProperties(), true)
	oldRemote         = sections.Of(jobs.RemoteProperties(), false)
	deleteRemoteProps = oldRemote.Removal()
	scanNS            = params.ns.As("namespace", "The namespace; empty is the root.")
)

// remoteItem is another server.
type remoteItem struct {
	Name        string `json:"name"`
	Host        string `json:"host"`
	Port        uint16 `json:"port,omitempty"`
	Auth        string `json:"auth-id"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Comment     string `json:"comment,omitempty"`
}

func remoteItemOf(r jobs.Remote) remoteItem {
	return remoteItem{r.Name, r.Host, r.Port, r.Auth.String(), r.Fingerprint, r.Comment}
}

func (s *Server) listRemotes(_ context.Context, r *api.Request) ([]remoteItem, error) {
	all, digest, err := jobs.Remotes(s.opt.Config)
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	list := []remoteItem{}
	for _, one := range all {
		if r.Policy.RequireAny(r.Caller, access.RemotePath(one.Name, "", names.Root), access.RemoteAudit) == nil {
			list = append(list, remoteItemOf(one))
		}
	}
	return list, nil
}

func (s *Server) showRemote(_ context.Context, r *api.Request) (remoteItem, error) {
	all, digest, err := jobs.Remotes(s.opt.Config)
	if err != nil {
		return remoteItem{}, err
	}
	r.Set("digest", digest.String())
	one, err := jobs.PickRemote(all, remoteName.Of(r))
	return remoteItemOf(one), err
}

func (s *Server) changeRemote(ctx context.Context, r *api.Request) error {
	v := sections.Merged(oldRemote.Values(r), deleteRemoteProps.Of(r))
	if p, given := remotePassword.Optional().Given(r); given {
		return jobs.SetRemote(ctx, s.opt.Config, remoteName.Of(r), params.digest.Of(r), false, v, &p)
	}
	return jobs.SetRemote(ctx, s.opt.Config, remoteName.Of(r), params.digest.Of(r), false, v, nil)
}

// remoteOf is the server that a request names, if there is a way to it.
func (s *Server) remoteOf(r *api.Request) (jobs.Remote, error) {
	one, err := jobs.FindRemote(s.opt.Config, remoteName.Of(r))
	if err == nil && s.opt.Remotes == nil {
		err = errNoRemotes
	}
	return one, err
}

func (s *Server) scanStores(ctx context.Context, r *api.Request) ([]items.Store, error) {
	one, err := s.remoteOf(r)
	if err != nil {
		return nil, err
	}
	list, err := s.opt.Remotes.Stores(ctx, one)
	if err != nil {
		return nil, notOurs(one, err)
	}
	return list, nil
}

// scan looks at a datastore of another server.
func (s *Server) scan(ctx context.Context, r *api.Request, look func(repo.Repository) error) (err error) {
	one, err := s.remoteOf(r)
	if err != nil {
		return err
	}
	there, err := s.opt.Remotes.Open(ctx, one, params.store.Of(r))
	if err != nil {
		return notOurs(one, err)
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	if err := look(there); err != nil {
		return notOurs(one, err)
	}
	return nil
}

// notOurs keeps the kind of another server's error from our client, who is logged in
// here, whatever the other one says.
func notOurs(r jobs.Remote, err error) error {
	return rest.Errorf(http.StatusBadGateway, "remote %s: %v", r.Name, err)
}

func (s *Server) scanNamespaces(ctx context.Context, r *api.Request) (list []items.Namespace, err error) {
	err = s.scan(ctx, r, func(there repo.Repository) error {
		all, err := there.Namespaces(ctx, names.Root)
		list = []items.Namespace{{}} // the root
		for _, ns := range all {
			list = append(list, items.Namespace{NS: ns.String()})
		}
		return err
	})
	return list, err
}

func (s *Server) scanGroups(ctx context.Context, r *api.Request) (list []items.Group, err error) {
	err = s.scan(ctx, r, func(there repo.Repository) error {
		infos, err := there.Groups(ctx, scanNS.Of(r))
		list = []items.Group{}
		for _, g := range infos {
			list = append(list, groupItem(g))
		}
		return err
	})
	return list, err
}
