package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// configCalls are the calls about the configuration of datastores.
func (s *Server) configCalls() []api.Call {
	const at = "/config/datastore"
	see := api.Where("/datastore/{name}", access.DatastoreAudit)
	change := api.Where("/datastore/{name}", access.DatastoreAllocate)
	return []api.Call{
		{
			Method: "GET", Path: at, Doc: "List how datastores are configured.",
			Guard: api.LoggedIn("Those with Datastore.Audit."), Do: api.Data(s.storeConfigs),
		},
		{
			Method: "POST", Path: at, Doc: "Make a datastore, or take one in that is there. The task that does it is the answer.",
			Guard: api.Where("/datastore", access.DatastoreAllocate), Params: append([]api.AnyParam{storeName, storePath, storeBackend, reuse, overwriteInUse}, storeFields.Params()...), Do: api.Data(s.addStore),
		},
		{Method: "GET", Path: at + "/{name}", Doc: "Show how a datastore is configured.", Guard: see, Params: []api.AnyParam{storeName}, Do: api.Data(s.storeConfig)},
		{
			Method: "PUT", Path: at + "/{name}", Doc: "Change how a datastore is configured.",
			Guard: change, Params: append([]api.AnyParam{storeName, deleteStoreProps, params.digest}, storeFields.Params()...), Do: api.Nothing(s.changeStore),
		},
		{
			Method: "DELETE", Path: at + "/{name}", Doc: "Forget a datastore. Its data stays where it is.",
			Guard: change, Params: []api.AnyParam{storeName, keepACL, params.digest}, Do: api.Data(s.removeStore),
		},
	}
}

var (
	storeName = params.store.As("name", "The datastore.")
	storePath = api.Parsed("path", "The directory of the datastore, an absolute path. One in an object store has its cache there.", "", 4096, func(s string) (string, error) {
		if !filepath.IsAbs(s) || filepath.Clean(s) == "/" {
			return "", fmt.Errorf("%q is not an absolute path of a directory other than the root", s)
		}
		return filepath.Clean(s), nil
	}).Optional()
	storeBackend = api.Parsed("backend", "What holds it, as in type=s3,client=ID,bucket=NAME; a directory by default.", "", 1024, func(s string) (string, error) {
		_, err := stores.ParseBackend(s)
		return s, err
	}).Optional()
	overwriteInUse   = api.Bool("overwrite-in-use", "Of no effect here: several servers may use a bucket.").Default(false)
	reuse            = api.Bool("reuse-datastore", "Take in a datastore that is there, and make none.").Default(false)
	storeFields      = sections.Of(stores.Properties(), false)
	keepACL          = api.Bool("keep-job-configs", "Leave the rights on it in place.").Default(false)
	deleteStoreProps = storeFields.Removal()
)

// configItem is the section of a datastore.
func configItem(c stores.Config) map[string]any {
	item := property.Item(c.Section(), stores.Properties())
	item["name"] = c.Name
	return item
}

func (s *Server) storeConfigs(_ context.Context, r *api.Request) ([]map[string]any, error) {
	configs, err := s.stores.List()
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, c := range configs {
		if r.Policy.RequireAny(r.Caller, access.StorePath(c.Name, ""), access.DatastoreAudit) == nil {
			list = append(list, configItem(c))
		}
	}
	return list, s.configDigest(r)
}

func (s *Server) configDigest(r *api.Request) error {
	digest, err := s.stores.Digest()
	r.Set("digest", digest)
	return err
}

func (s *Server) storeConfig(_ context.Context, r *api.Request) (map[string]any, error) {
	c, err := s.stores.Find(storeName.Of(r))
	if err != nil {
		return nil, err
	}
	return configItem(c), s.configDigest(r)
}

func (s *Server) addStore(_ context.Context, r *api.Request) (string, error) {
	name, path, backend := storeName.Of(r), storePath.Of(r), storeBackend.Of(r)
	if path == "" && backend == "" {
		return "", rest.Errorf(http.StatusBadRequest, "path or backend is missing")
	}
	id, err := s.StartTask(job{"create-datastore", name}.by(r.Caller), func(ctx context.Context, t *tasks.Task) error {
		t.Logf("datastore '%s' at %s", name, strings.Join(slices.DeleteFunc([]string{path, backend}, func(s string) bool { return s == "" }), ", "))
		return s.stores.Add(ctx, stores.Addition{
			Name: name, Path: path, Backend: backend, Reuse: reuse.Of(r), Values: storeFields.Values(r),
			Progress: func(done, total int) {
				if done%4096 == 0 {
					t.Logf("%d of %d chunk directories", done, total)
				}
			},
		})
	})
	return id.String(), err
}

func (s *Server) changeStore(ctx context.Context, r *api.Request) error {
	return s.stores.Update(ctx, params.digest.Of(r), storeName.Of(r), sections.Merged(storeFields.Values(r), deleteStoreProps.Of(r)))
}

func (s *Server) removeStore(ctx context.Context, r *api.Request) (string, error) {
	name := storeName.Of(r)
	if reading, writing := s.stores.Active(name); reading+writing > 0 {
		return "", fmt.Errorf("datastore '%s' is in use by %d operations", name, reading+writing)
	}
	if err := s.stores.Remove(ctx, params.digest.Of(r), name); err != nil {
		return "", err
	}
	if err := errors.Join(s.usage.Forget(name), s.history.Forget(storeSeries(name))); err != nil {
		return "", err
	}
	if !keepACL.Of(r) {
		err := s.store.ChangeACL(ctx, "", func(acl *access.ACL) error { acl.ForgetBelow(access.StorePath(name, "")); return nil })
		if err != nil {
			return "", err
		}
	}
	id, err := s.StartTask(job{"delete-datastore", name}.by(r.Caller), func(_ context.Context, t *tasks.Task) error {
		t.Logf("datastore '%s' was removed from the configuration; its data stays", name)
		return nil
	})
	return id.String(), err
}
