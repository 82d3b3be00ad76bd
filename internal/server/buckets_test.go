package server_test

import (
	"bytes"
	"context"
	"net"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// engine is an object store with an empty bucket "backups".
func engine(t *testing.T) (host, port string) {
	t.Helper()
	back := s3mem.New()
	if err := back.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(back).Server())
	t.Cleanup(srv.Close)
	host, port, _ = strings.Cut(strings.TrimPrefix(srv.URL, "http://"), ":")
	return host, port
}

// addEngine makes an engine known to the server.
func (c *client) addEngine(host, port string) {
	c.post("/config/s3", "id", "engine", "endpoint", "http://"+host, "port", port, "path-style", "1", "access-key", "key", "secret-key", "very-secret").want(200, "null")
}

// addCloud adds a datastore in the bucket.
func (s *site) addCloud(c *client, name string, more ...string) {
	s.t.Helper()
	params := append([]string{"name", name, "backend", "type=s3,client=engine,bucket=backups,prefix=cloud"}, more...)
	if end := c.wait(c.post("/config/datastore", params...)); end != "OK" {
		s.t.Fatalf("the datastore is not added: %s", end)
	}
}

// remoteStore opens a datastore over the network.
func (s *site) remoteStore(store string) *remote.Repository {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.addr)
	s.ok(err)
	n, err := strconv.ParseUint(port, 10, 16)
	s.ok(err)
	fp, err := address.ParseFingerprint(s.server.Fingerprint())
	s.ok(err)
	r, err := remote.Open(address.Address{Auth: auth("admin@pbs"), Host: host, Port: uint16(n), Store: store}, remote.Options{
		Fingerprint: fp, Password: func(context.Context) (secret.Secret, error) { return secret.New([]byte(password)), nil },
	})
	s.ok(err)
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

// bucket is what lies in it.
func (s *site) bucket(host, port, prefix string) objstore.Store {
	s.t.Helper()
	at, err := s3.ParseAddress("s3://backups/" + prefix + "?endpoint=http://" + host + ":" + port)
	s.ok(err)
	b, err := s3.Open(at, s3.Options{AccessKey: "key", SecretKey: "very-secret"})
	s.ok(err)
	s.t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestBackupsGoThroughTheServerIntoABucket(t *testing.T) {
	host, port := engine(t)
	s := newSite(t)
	s.start()
	c := s.login("admin@pbs")
	c.addEngine(host, port)
	s.addCloud(c, "cloud", "verify-new", "true")
	ctx, r := t.Context(), s.remoteStore("cloud")
	img, tree := picturePlain(), tree(t)
	first, second := snapshot("", "vm/100", day1), snapshot("", "vm/100", day1+3600)
	if _, err := backup.Run(ctx, r, job(first, img, tree, nil)); err != nil {
		t.Fatal(err)
	}
	wantContent(t, r, first, img, tree, nil)
	img = slices.Clone(img)
	img[5<<20] ^= 1
	rep, err := backup.Run(ctx, r, job(second, img, tree, nil))
	if err != nil {
		t.Fatal(err)
	}
	if n := rep.Archives[0].Stats.Stored.Chunks; n != 1 {
		t.Errorf("%d chunks of the image were sent, want the one that changed", n)
	}
	wantContent(t, r, first, picturePlain(), tree, nil)
	wantContent(t, r, second, img, tree, nil)
	s.waitFor(c, `"worker_type":"verify","worker_id":"cloud:vm/100/`)
	if _, err := r.Verify(ctx, repo.VerifyOptions{}); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`"verification":{`, `"index.json.blob"`, `"vm.conf.blob"`} {
		c.get("/admin/datastore/cloud/snapshots").want(200, want)
	}

	// Another server has the same repository at the same time.
	other := newSite(t)
	other.start()
	oc := other.login("admin@pbs")
	oc.addEngine(host, port)
	other.addCloud(oc, "same", "reuse-datastore", "1", "path", other.path("cache"))
	wantContent(t, other.remoteStore("same"), first, picturePlain(), tree, nil)

	// And a job brings its backups into a directory.
	s.addJob(jobs.Sync, "home", jobs.Values{"store": {"tank"}, "remote-store": {"cloud"}})
	if end, log := s.runJob(jobs.Sync, "home"); end.Kind != tasks.OK {
		t.Errorf("sync: %+v\n%s", end, log)
	}
	wantContent(t, s.remoteStore("tank"), second, img, tree, nil)

	if _, err := r.Prune(ctx, repo.PruneOptions{Group: &second.Group, Keep: retention.Options{Last: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.GC(ctx, repo.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	wantContent(t, r, second, img, tree, nil)
	c.get("/admin/datastore/cloud/status", "verbose", "1").want(200, `"backend-type":"s3"`)
	c.get("/status/datastore-usage").want(200, `"store":"cloud"`)
	key := s.addToken("admin@pbs!prometheus")
	s.grant("/", "admin@pbs!prometheus", access.Role("Audit"))
	_, figures := s.scrape("admin@pbs!prometheus", key)
	for _, want := range []string{`holdfast_objectstore_requests_total{datastore="cloud",kind="put"}`, `holdfast_datastore_available_bytes{datastore="cloud"} 1.1`} {
		if !strings.Contains(figures, want) {
			t.Errorf("%s is not in the figures\n%s", want, figures)
		}
	}
	c.del("/config/s3/engine").want(400, "the datastore 'cloud' uses it")
	if strings.Contains(s.log.String(), "level=ERROR") {
		t.Error("the log has errors")
	}
	if strings.Contains(s.log.String()+other.log.String(), "very-secret") {
		t.Error("the log has the secret key")
	}
}

func TestDatastoreOfPBSInABucketIsRead(t *testing.T) {
	host, port := engine(t)
	s := newSite(t)
	s.start()
	c := s.login("admin@pbs")
	c.addEngine(host, port)
	b := s.bucket(host, port, "cloud")
	for key, text := range map[string]string{
		names.S3InUse: `{"hostname":"pbs1"}`, ".cnt/vm/100/owner": "root@pam\n", ".cnt/ns/a/.namespace": "",
	} {
		_, err := b.Put(t.Context(), key, bytes.NewReader([]byte(text)), objstore.PutOptions{})
		s.ok(err)
	}
	params := []string{"name", "cloud", "backend", "type=s3,client=engine,bucket=backups"}
	if end := c.wait(c.post("/config/datastore", params...)); !strings.Contains(end, "exists already") {
		t.Errorf("a new datastore in its place: %s", end)
	}
	if end := c.wait(c.post("/config/datastore", append(params, "reuse-datastore", "1", "overwrite-in-use", "1")...)); end != "OK" {
		t.Fatal(end)
	}
	c.get("/admin/datastore/cloud/groups").want(200, `"backup-id":"100"`)
	c.get("/admin/datastore/cloud/namespace").want(200, `"ns":"a"`)
	c.get("/admin/datastore/cloud/status", "verbose", "1").want(200, `"total":`)
	c.get("/admin/datastore/cloud/gc").want(200, `"index-file-count":0`)
	c.get("/status/datastore-usage").want(200, `"store":"cloud"`)
	c.post("/admin/datastore/cloud/namespace", "name", "b").want(400, "Proxmox Backup Server has its datastore there")
	_, err := backup.Run(t.Context(), s.remoteStore("cloud"), job(snapshot("", "vm/100", day1), picturePlain(), tree(t), nil))
	if err == nil || !strings.Contains(err.Error(), "Proxmox Backup Server has its datastore there") {
		t.Errorf("a backup: %v", err)
	}
	if n := strings.Count(s.log.String(), "cannot back up"); n != 1 {
		t.Errorf("the log says %d times why\n%s", n, s.log.String())
	}
}

func TestObjectStoresAreConfiguredByThoseWhoMay(t *testing.T) {
	host, port := engine(t)
	s := newSite(t)
	s.addUser("ann@pbs")
	s.start()
	c, ann := s.login("admin@pbs"), s.login("ann@pbs")
	ann.post("/config/s3", "id", "engine", "endpoint", host, "access-key", "key", "secret-key", "x").want(403, "")
	c.post("/config/s3", "id", "engine", "endpoint", "http://"+host, "secret-key", "x").want(400, "'access-key'")
	c.addEngine(host, port)
	c.post("/config/s3", "id", "engine", "endpoint", host, "access-key", "key", "secret-key", "x").want(400, "exists already")
	ann.get("/config/s3").want(200, `"data":[]`)
	ann.get("/config/s3/engine").want(403, "")
	one := `{"access-key":"key","endpoint":"http://` + host + `","id":"engine","path-style":true,"port":` + port + `}`
	c.get("/config/s3").want(200, one)
	c.get("/config/s3/engine").want(200, one)
	s.grant("/system/s3-endpoint/engine", "ann@pbs", "Audit")
	ann.get("/config/s3/engine").want(200, one)
	ann.put("/config/s3/engine", "region", "garage").want(403, "")
	c.put("/config/s3/engine", "rate-in", "10MiB", "provider-quirks", "delete-objects-via-delete-object").want(200, "null")
	c.put("/config/s3/engine", "delete", "rate-in").want(200, "null")
	c.get("/config/s3/engine").want(200, `"provider-quirks":["delete-objects-via-delete-object"]`)
	c.get("/config/s3/engine/list-buckets").want(200, `"data":[{"name":"backups"}]`)
	ann.get("/config/s3/engine/list-buckets").want(403, "")
	c.put("/admin/s3/engine/check", "bucket", "backups", "store-prefix", "cloud").want(200, "null")
	c.put("/admin/s3/engine/check", "bucket", "others").want(502, "no such bucket")
	c.put("/admin/s3/none/check", "bucket", "backups").want(400, "not found")
	c.del("/config/s3/engine").want(200, "null")
	c.get("/config/s3").want(200, `"data":[]`)
}
