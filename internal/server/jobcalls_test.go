package server_test

import (
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// whole is an answer with what stands beside the data.
type whole struct {
	Data   any
	Digest string
}

func (r reply) whole() (w whole) {
	r.t.Helper()
	if err := json.Unmarshal([]byte(r.Body), &w); err != nil || r.Status != 200 {
		r.t.Fatalf("%s: %d %s: %v", r.name, r.Status, r.Body, err)
	}
	return w
}

func TestJobsAreAddedChangedRunAndRemoved(t *testing.T) {
	s := newSite(t).start()
	for i := range int64(3) {
		s.small("tank", snapshot("", "vm/100", day1+i*3600), "admin@pbs")
	}
	c := s.login("admin@pbs")
	c.post("/config/prune", "id", "nightly", "store", "tank", "keep-last", "1", "schedule", "02:30", "disable", "0").want(200, "null")
	c.post("/config/prune", "id", "nightly", "store", "tank").want(400, "exists already")
	c.post("/config/prune", "id", "second", "keep-last", "1").want(400, "'store': parameter is missing")
	c.post("/config/prune", "id", "second", "store", "tank", "schedule", "at noon").want(400, "schedule")
	one := c.get("/config/prune/nightly").whole()
	want := map[string]any{"id": "nightly", "store": "tank", "keep-last": 1.0, "schedule": "02:30", "disable": false}
	if diff := cmp.Diff(want, one.Data); diff != "" {
		t.Error(diff)
	}
	if all := c.get("/config/prune").whole(); len(all.Data.([]any)) != 1 || all.Digest != one.Digest || len(one.Digest) != 64 {
		t.Errorf("%+v", all)
	}
	c.put("/config/prune/nightly", "comment", "x", "digest", strings.Repeat("0", 64)).want(400, "changed by somebody else")
	c.put("/config/prune/nightly", "comment", " at night ", "keep-last", "2", "delete", "disable", "digest", one.Digest).want(200, "null")
	c.put("/config/prune/none", "comment", "x").want(400, "not found")
	c.put("/config/prune/nightly", "comment", "two\nlines").want(400, "comment")
	c.send("PUT", "/api2/json/config/prune/nightly", "application/json", `{"keep-last":2,"disable":true,"delete":["disable","ns"]}`).want(200, "null")
	c.get("/config/prune/nightly").want(200, `"disable":true`) // what is given as well stays
	c.put("/config/prune/nightly", "delete", "disable").want(200, "null")
	want = map[string]any{"id": "nightly", "store": "tank", "keep-last": 2.0, "schedule": "02:30", "comment": "at night"}
	if diff := cmp.Diff(want, c.get("/config/prune/nightly").whole().Data); diff != "" {
		t.Error(diff)
	}
	if end := c.wait(c.post("/admin/prune/nightly/run")); end != "OK" || len(s.snapshots("tank")) != 2 {
		t.Errorf("it ended with %s: %q", end, s.snapshots("tank"))
	}
	var list []struct {
		ID      string `json:"id"`
		Next    int64  `json:"next-run"`
		State   string `json:"last-run-state"`
		UPID    string `json:"last-run-upid"`
		EndTime int64  `json:"last-run-endtime"`
	}
	s.server.Wait()
	c.get("/admin/prune", "store", "tank").data(&list)
	if len(list) != 1 || list[0].Next <= timeNow().Unix() || list[0].State != "OK" || !strings.Contains(list[0].UPID, ":prunejob:tank:admin@pbs:") || list[0].EndTime == 0 {
		t.Errorf("%+v", list)
	}
	c.get("/admin/prune", "store", "pool").want(200, `"data":[]`)
	c.del("/config/prune/nightly").want(200, "null")
	c.get("/config/prune/nightly").want(400, "not found")
	c.post("/admin/prune/nightly/run").want(400, "not found")
}

func TestCollectionsAreShownWithTheirSchedule(t *testing.T) {
	s := newSite(t).start()
	s.addStore("pool")
	c := s.login("admin@pbs")
	c.put("/config/datastore/tank", "gc-schedule", "daily").want(200, "null")
	s.gcTask(c)
	var list []struct {
		Store, Schedule string
		Next            int64  `json:"next-run"`
		State           string `json:"last-run-state"`
	}
	c.get("/admin/gc").data(&list)
	if len(list) != 2 || list[0].Store != "tank" || list[0].Schedule != "daily" || list[0].Next <= timeNow().Unix() || list[0].State != "OK" || list[1].Next != 0 || list[1].State != "" {
		t.Errorf("%+v", list)
	}
	c.get("/admin/gc/pool").want(200, `"store":"pool"`)
}

// far is a server that others copy from and to, and near one that knows it.
func twoServers(t *testing.T) (far, near *site) {
	t.Helper()
	far = newSite(t)
	key := far.addToken("admin@pbs!sync")
	far.grant("/datastore/tank", "admin@pbs!sync", "DatastoreAdmin")
	far.start()
	near = newSite(t)
	near.opt.Remotes = reach{}
	host, port, err := net.SplitHostPort(far.addr)
	near.ok(err)
	p := secret.New([]byte(key))
	near.ok(jobs.SetRemote(t.Context(), near.conf, "far", "", true, jobs.Values{
		"host": {host}, "port": {port}, "auth-id": {"admin@pbs!sync"}, "fingerprint": {far.server.Fingerprint()},
	}, &p))
	return far, near
}

func TestAnotherServerIsLookedAt(t *testing.T) {
	far, near := twoServers(t)
	far.small("tank", snapshot("", "vm/100", day1), "owner@pbs")
	far.fill("tank", snapshot("a", "ct/7", day1), "owner@pbs", nil, "")
	near.start()
	c := near.login("admin@pbs")
	c.get("/config/remote").want(200, `"auth-id":"admin@pbs!sync"`)
	if r := c.get("/config/remote/far"); strings.Contains(r.Body, "password") {
		t.Errorf("%s", r.Body)
	}
	c.get("/config/remote/far/scan").want(200, `"store":"tank"`)
	c.get("/config/remote/far/scan/tank/namespaces").want(200, `{"data":[{"ns":""},{"ns":"a"}]}`)
	c.get("/config/remote/far/scan/tank/groups").want(200, `"backup-id":"100"`)
	c.get("/config/remote/far/scan/tank/groups", "namespace", "a").want(200, `"backup-id":"7"`)
	c.get("/config/remote/far/scan/none/groups").want(502, "remote far: ")
	c.get("/config/remote/near/scan").want(400, "not found")
	wrong := secret.New([]byte("wrong"))
	near.ok(jobs.SetRemote(t.Context(), near.conf, "far", "", false, nil, &wrong))
	c.get("/config/remote/far/scan").want(502, "login refused") // and not 401: who asks is logged in here
	near.ok(far.stop())
	c.get("/config/remote/far/scan").want(502, "remote far: ")

	c.post("/config/remote", "name", "other", "host", "::1", "auth-id", "a@pbs", "password", "hidden").want(200, "null")
	c.put("/config/remote/other", "port", "8008", "comment", "x", "password", "other").want(200, "null")
	c.put("/config/remote/other", "delete", "comment").want(200, "null")
	c.put("/config/remote/other", "delete", "host").want(400, "host is missing")
	c.get("/config/remote/other").want(200, `{"data":{"name":"other","host":"::1","port":8008,"auth-id":"a@pbs"},`)
	if r, err := jobs.FindRemote(near.conf, "other"); err != nil || string(r.Password.Reveal()) != "other" {
		t.Errorf("%+v, %v", r, err)
	}
	c.post("/config/sync", "id", "use", "store", "tank", "remote", "other", "remote-store", "tank").want(200, "null")
	c.del("/config/remote/other").want(400, "sync job use uses it")
	c.del("/config/sync/use").want(200, "null")
	c.del("/config/remote/other").want(200, "null")
}

// Who may do what with syncs depends on both ends.
func TestSyncsNeedRightsAtBothEnds(t *testing.T) {
	_, near := twoServers(t)
	near.addStore("copy")
	near.addUser("joe@pbs")
	near.start()
	c := near.login("joe@pbs")
	type grants map[string]access.Role
	pull := []string{"store", "tank", "remote", "far", "remote-store", "tank"}
	aside := []string{"store", "tank", "remote-store", "copy"}
	mine, removing := []string{"owner", "joe@pbs"}, []string{"remove-vanished", "1"}
	push := []string{"sync-direction", "push"}
	id := []string{"id", "one"}
	for _, tc := range []struct {
		name   string
		grants grants
		path   string
		params [][]string
		ok     bool
	}{
		{"pull without rights there", grants{"/datastore/tank": "DatastorePowerUser"}, "/pull", [][]string{pull}, false},
		{"pull without rights here", grants{"/remote/far/tank": "RemoteSyncOperator"}, "/pull", [][]string{pull}, false},
		{"pull", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreBackup"}, "/pull", [][]string{pull}, true},
		{"pull that removes", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreBackup"}, "/pull", [][]string{pull, removing}, false},
		{"pull that removes, by who may", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastorePowerUser"}, "/pull", [][]string{pull, removing}, true},
		{"pull into a namespace", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank/a": "DatastoreBackup"}, "/pull", [][]string{pull, {"ns", "a"}}, true},
		{"pull into another namespace", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank/a": "DatastoreBackup"}, "/pull", [][]string{pull, {"ns", "b"}}, false},
		{"pull from aside", grants{"/datastore/copy": "DatastoreReader", "/datastore/tank": "DatastoreBackup"}, "/pull", [][]string{aside}, true},
		{"pull from aside, unseen", grants{"/datastore/copy": "DatastoreAudit", "/datastore/tank": "DatastoreBackup"}, "/pull", [][]string{aside}, false},
		{"push", grants{"/remote/far/tank": "RemoteSyncPushOperator", "/datastore/tank": "DatastoreBackup"}, "/push", [][]string{pull}, true},
		{"push without rights there", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreReader"}, "/push", [][]string{pull}, false},
		{"push without rights here", grants{"/remote/far/tank": "RemoteSyncPushOperator", "/datastore/tank": "DatastoreAudit"}, "/push", [][]string{pull}, false},
		{"push that removes", grants{"/remote/far/tank": "RemoteSyncPushOperator", "/datastore/tank": "DatastoreReader"}, "/push", [][]string{pull, removing}, false},
		{"a job that pulls, not seen", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreBackup"}, "/config/sync", [][]string{id, pull, mine}, false},
		{"a job that pulls, for root", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "Admin"}, "/config/sync", [][]string{id, pull}, true},
		{"a job for another", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreReader"}, "/config/sync", [][]string{id, pull, {"owner", "ann@pbs"}}, false},
		{"a job of one's own", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreAudit,DatastoreBackup"}, "/config/sync", [][]string{id, pull, mine}, true},
		{"a job that is root's", grants{"/remote/far/tank": "RemoteSyncOperator", "/datastore/tank": "DatastoreAudit,DatastoreBackup"}, "/config/sync", [][]string{id, pull}, false},
		{"a job that pushes root's backups", grants{"/remote/far/tank": "RemoteSyncPushOperator", "/datastore/tank": "DatastoreAudit,DatastoreBackup"}, "/config/sync", [][]string{id, pull, push}, false},
		{"a job that pushes one's own", grants{"/remote/far/tank": "RemoteSyncPushOperator", "/datastore/tank": "DatastoreAudit,DatastoreBackup"}, "/config/sync", [][]string{id, pull, push, mine}, true},
		{"a job that pushes", grants{"/remote/far/tank": "RemoteSyncPushOperator", "/datastore/tank": "DatastoreReader"}, "/config/sync", [][]string{id, pull, push, mine}, true},
		{"a job that pushes without rights there", grants{"/datastore/tank": "Admin"}, "/config/sync", [][]string{id, pull, push, mine}, false},
	} {
		near.ok(near.store.ChangeACL(t.Context(), "", func(a *access.ACL) error {
			for _, path := range []access.Path{"/remote", "/datastore"} {
				a.ForgetBelow(path)
			}
			return nil
		}))
		for path, role := range tc.grants {
			for one := range strings.SplitSeq(string(role), ",") {
				near.grant(path, "joe@pbs", access.Role(one))
			}
		}
		status := 403
		if tc.ok {
			status = 200
		}
		if got := c.post(tc.path, slices.Concat(tc.params...)...); got.Status != status {
			t.Errorf("%s: %d %s", tc.name, got.Status, got.Body)
		}
		_ = jobs.Remove(t.Context(), near.conf, jobs.Sync, "one", "")
	}
}

// A sync copies what its owner may read to where its owner may write, and leaves the
// rest alone.
func TestASyncReachesAsFarAsItsOwner(t *testing.T) {
	far, near := twoServers(t)
	far.small("tank", snapshot("", "vm/100", day1), "owner@pbs")
	near.addStore("copy")
	near.addUser("joe@pbs")
	near.small("tank", snapshot("", "vm/1", day1), "joe@pbs")
	near.small("tank", snapshot("", "vm/2", day1), "ann@pbs")
	near.fill("tank", snapshot("a", "vm/3", day1), "joe@pbs", nil, "")
	near.fill("tank", snapshot("b", "vm/4", day1), "ann@pbs", nil, "")
	near.grant("/datastore/tank", "joe@pbs", "DatastoreBackup")
	near.grant("/datastore/tank/b", "joe@pbs", access.NoAccess)
	near.grant("/datastore/copy", "joe@pbs", "DatastoreBackup")
	near.grant("/remote/far/tank", "joe@pbs", "RemoteSyncPushOperator")
	near.start()
	c := near.login("joe@pbs")
	if end := c.wait(c.post("/pull", "store", "copy", "remote-store", "tank")); !strings.HasPrefix(end, "sync failed with some errors: 1 things") {
		t.Errorf("the namespace that joe may not make: %s", end)
	}
	if got := near.snapshots("copy"); !slices.Equal(got, []string{"vm/1/2024-06-05T15:06:40Z joe@pbs"}) {
		t.Errorf("%q", got)
	}
	near.grant("/datastore/copy", "joe@pbs", "DatastoreAdmin")
	if end := c.wait(c.post("/pull", "store", "copy", "remote-store", "tank")); end != "OK" {
		t.Errorf("%s", end)
	}
	if got := near.snapshots("copy"); !slices.Equal(got, []string{"vm/1/2024-06-05T15:06:40Z joe@pbs", "a/vm/3/2024-06-05T15:06:40Z joe@pbs"}) {
		t.Errorf("%q", got)
	}
	if end := c.wait(c.post("/push", "store", "tank", "remote", "far", "remote-store", "tank")); !strings.HasPrefix(end, "sync failed with some errors: 1 things") {
		t.Errorf("%s", end)
	}
	want := []string{"vm/1/2024-06-05T15:06:40Z admin@pbs!sync", "vm/100/2024-06-05T15:06:40Z owner@pbs"}
	if got := far.snapshots("tank"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	// The same by a job of joe's that somebody else runs.
	near.addJob(jobs.Sync, "back", jobs.Values{"store": {"tank"}, "ns": {"b"}, "remote": {"far"}, "remote-store": {"tank"}, "owner": {"joe@pbs"}})
	if end, log := near.runJob(jobs.Sync, "back"); end.Kind != tasks.Failed || !strings.Contains(log, "permission denied: Datastore.Backup or Datastore.Write is needed on /datastore/tank/b") {
		t.Errorf("%+v\n%s", end, log)
	}
	// Who could have started it sees how it went, others do not.
	see := func() int {
		t.Helper()
		var list []struct {
			Type string `json:"worker_type"`
		}
		c.get("/nodes/localhost/tasks", "typefilter", "syncjob").data(&list)
		return len(list)
	}
	if n := see(); n != 0 {
		t.Errorf("joe sees %d tasks of root", n)
	}
	near.grant("/datastore/tank/b", "joe@pbs", "DatastoreBackup")
	if n := see(); n != 1 {
		t.Errorf("joe sees %d tasks of the job", n)
	}
}
