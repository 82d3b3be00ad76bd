package server

import (
	"context"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
	"github.com/holdfast-backup/holdfast/internal/server/sections"
)

// bucketCalls are the calls about object stores.
func (s *Server) bucketCalls() []api.Call {
	const at, one = "/config/s3", "/config/s3/{id}"
	see := api.Where("/system/s3-endpoint/{id}", access.SysAudit)
	change := api.Where("/system/s3-endpoint/{id}", access.SysModify)
	return []api.Call{
		{
			Method: "GET", Path: at, Doc: "List object stores, without their secret keys.",
			Guard: api.LoggedIn("Those with Sys.Audit on /system/s3-endpoint/{id}."), Do: api.Data(s.listBucketClients),
		},
		{
			Method: "POST", Path: at, Doc: "Add an object store.", Guard: api.Where("/system/s3-endpoint", access.SysModify),
			Params: append([]api.AnyParam{clientID, clientKey}, newClient.Params()...),
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				key := clientKey.Of(r)
				return buckets.Set(ctx, s.opt.Config, clientID.Of(r), "", true, newClient.Values(r), &key)
			}),
		},
		{Method: "GET", Path: one, Doc: "Show an object store, without its secret key.", Guard: see, Params: []api.AnyParam{clientID}, Do: api.Data(s.showBucketClient)},
		{
			Method: "PUT", Path: one, Doc: "Change an object store.", Guard: change,
			Params: append([]api.AnyParam{clientID, clientKey.Optional(), deleteClientProps, params.digest}, oldClient.Params()...),
			Do:     api.Nothing(s.changeBucketClient),
		},
		{
			Method: "DELETE", Path: one, Doc: "Forget an object store, which no datastore may use.", Guard: change,
			Params: []api.AnyParam{clientID, params.digest},
			Do: api.Nothing(func(ctx context.Context, r *api.Request) error {
				return buckets.Remove(ctx, s.opt.Config, clientID.Of(r), params.digest.Of(r))
			}),
		},
		{
			Method: "GET", Path: one + "/list-buckets", Doc: "List the buckets that the key of an object store shows.",
			Guard: api.Where("/", access.SysAudit), Params: []api.AnyParam{clientID}, Do: api.Data(s.listBuckets),
		},
		{
			Method: "PUT", Path: "/admin/s3/{s3-client-id}/check", Doc: "Write, read and remove an object in a bucket.",
			Guard: api.Where("/", access.SysModify), Params: []api.AnyParam{checkedClient, bucketName, storePrefix}, Do: api.Nothing(s.checkBucket),
		},
	}
}

var (
	clientID          = api.Match("id", "The object store.", safeID, 32)
	checkedClient     = clientID.As("s3-client-id", "The object store.")
	clientKey         = passwordParam("secret-key", "The secret key.")
	newClient         = sections.Of(buckets.Properties(), true)
	oldClient         = sections.Of(buckets.Properties(), false)
	deleteClientProps = oldClient.Removal()
	bucketName        = api.Match("bucket", "The bucket.", "[a-z0-9][a-z0-9.-]*", 63)
	storePrefix       = api.Match("store-prefix", "What keys begin with, as the name of a datastore.", "[A-Za-z0-9_][A-Za-z0-9._/-]*", 512).Optional()
)

func (s *Server) listBucketClients(_ context.Context, r *api.Request) ([]map[string]any, error) {
	all, digest, err := buckets.List(s.opt.Config)
	if err != nil {
		return nil, err
	}
	r.Set("digest", digest.String())
	list := []map[string]any{}
	for _, c := range all {
		if r.Policy.RequireAny(r.Caller, access.Path("/system/s3-endpoint/"+c.ID), access.SysAudit) == nil {
			list = append(list, c.Item())
		}
	}
	return list, nil
}

func (s *Server) showBucketClient(_ context.Context, r *api.Request) (map[string]any, error) {
	c, err := buckets.Find(s.opt.Config, clientID.Of(r))
	if err != nil {
		return nil, err
	}
	_, digest, err := buckets.List(s.opt.Config)
	r.Set("digest", digest.String())
	return c.Item(), err
}

func (s *Server) changeBucketClient(ctx context.Context, r *api.Request) error {
	v := sections.Merged(oldClient.Values(r), deleteClientProps.Of(r))
	if key, given := clientKey.Optional().Given(r); given {
		return buckets.Set(ctx, s.opt.Config, clientID.Of(r), params.digest.Of(r), false, v, &key)
	}
	return buckets.Set(ctx, s.opt.Config, clientID.Of(r), params.digest.Of(r), false, v, nil)
}

// bucketItem is a bucket.
type bucketItem struct {
	Name string `json:"name"`
}

func (s *Server) listBuckets(ctx context.Context, r *api.Request) ([]bucketItem, error) {
	c, err := buckets.Find(s.opt.Config, clientID.Of(r))
	if err != nil {
		return nil, err
	}
	all, err := c.ListBuckets(ctx)
	if err != nil {
		return nil, notTheEngines(c, err)
	}
	list := []bucketItem{}
	for _, name := range all {
		list = append(list, bucketItem{name})
	}
	return list, nil
}

func (s *Server) checkBucket(ctx context.Context, r *api.Request) error {
	c, err := buckets.Find(s.opt.Config, checkedClient.Of(r))
	if err != nil {
		return err
	}
	if err := c.Check(ctx, bucketName.Of(r), storePrefix.Of(r)); err != nil {
		return notTheEngines(c, err)
	}
	return nil
}

// notTheEngines keeps the kind of an engine's error from our client, who is logged in
// here, whatever the engine says.
func notTheEngines(c buckets.Client, err error) error {
	return rest.Errorf(http.StatusBadGateway, "object store %s: %v", c.ID, err)
}
