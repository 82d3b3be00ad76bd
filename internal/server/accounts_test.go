package server_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/access/tfa"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

func TestALoginGivesATicketThatCanBeRenewed(t *testing.T) {
	s := newSite(t).start()
	c := s.client()
	type login struct {
		Username, Ticket, CSRFPreventionToken string
		TicketInfo                            string `json:"ticket-info"`
	}
	var first, again login
	r := c.send("POST", "//api2//json/access/ticket", "application/json", `{"username":"admin@pbs","password":"`+password+`"}`)
	r.data(&first)
	if first.Username != "admin@pbs" || !strings.HasPrefix(first.Ticket, "PBS:admin@pbs:") || first.CSRFPreventionToken == "" {
		t.Fatalf("the login is %+v", first)
	}
	r.want(200, `"status":200`)
	r.want(200, `"success":true`)
	c.post("/access/ticket", "username", "admin@pbs", "password", first.Ticket).data(&again)
	c.cookie = "PBSAuthCookie=" + again.Ticket
	c.get("/version").want(200, "4.2")
	for _, cookie := range []string{ // as clients send it
		"a=b; PBSAuthCookie=" + strings.NewReplacer(":", "%3A", "@", "%40", "/", "%2F", "+", "%2B", "=", "%3D").Replace(again.Ticket) + "; path=/; secure; SameSite=Strict;",
		"PBSAuthCookie=nonsense; __Host-PBSAuthCookie=" + again.Ticket,
	} {
		(&client{s: s, http: c.http, cookie: cookie}).get("/version").want(200, "4.2")
	}

	r = s.client().post("/access/ticket", "username", "admin@pbs", "password", password, "http-only", "1")
	var hidden login
	r.data(&hidden)
	set := r.Header.Get("Set-Cookie")
	if hidden.Ticket != "" || !strings.HasSuffix(hidden.TicketInfo, "::ticketinfo") || !strings.HasPrefix(set, "__Host-PBSAuthCookie=PBS:admin@pbs:") || !strings.Contains(set, "; HttpOnly") {
		t.Errorf("the login is %+v with %q", hidden, set)
	}
	if set := c.del("/access/ticket").Header.Get("Set-Cookie"); !strings.Contains(set, "=; Expires=Thu, 01 Jan 1970") {
		t.Errorf("the logout sets %q", set)
	}

	c.post("/access/ticket", "username", "admin@pbs", "password", "wrong").want(401, "authentication failed")
	c.post("/access/ticket", "username", "ghost@pbs", "password", password).want(401, "authentication failed")
	c.post("/access/ticket", "username", "root@pam", "password", password).want(401, "authentication failed")
	c.post("/access/ticket", "username", "admin@pbs!nas", "password", password).want(400, "")
	c.post("/access/ticket", "username", "admin@pbs").want(400, "'password'")
	if strings.Contains(s.log.String(), password) || strings.Contains(s.log.String(), first.Ticket) {
		t.Error("the log holds a password or a ticket")
	}
}

func TestWhoGuessesHasToWait(t *testing.T) {
	s := newSite(t).start()
	c := s.client()
	for range 8 {
		c.post("/access/ticket", "username", "admin@pbs", "password", "wrong").want(401, "authentication failed")
	}
	if r := c.post("/access/ticket", "username", "admin@pbs", "password", password); r.Status != 401 || r.Header.Get("Retry-After") == "" {
		t.Errorf("the right password after many wrong ones: %d, Retry-After %q", r.Status, r.Header.Get("Retry-After"))
	}
}

func TestASecondFactorIsAskedFor(t *testing.T) {
	s := newSite(t)
	var codes []string
	s.ok(s.store.ChangeTFA(t.Context(), func(c *tfa.Config) (err error) {
		codes, err = c.AddRecovery("admin@pbs", timeNow(), randomness{})
		return err
	}))
	s.start()
	c := s.client()
	var first struct{ Ticket, CSRFPreventionToken string }
	c.post("/access/ticket", "username", "admin@pbs", "password", password).data(&first)
	if !strings.HasPrefix(first.Ticket, "PBS:%21tfa%21") && !strings.HasPrefix(first.Ticket, "PBS:!tfa!") || first.CSRFPreventionToken != "invalid" {
		t.Fatalf("the first answer is %+v", first)
	}
	(&client{s: s, http: c.http, cookie: "PBSAuthCookie=" + first.Ticket}).get("/version").want(401, "authentication failed")
	c.post("/access/ticket", "username", "admin@pbs", "password", "recovery:0000-0000-0000-0000", "tfa-challenge", first.Ticket).want(401, "authentication failed")
	var second struct{ Ticket string }
	c.post("/access/ticket", "username", "admin@pbs", "password", "recovery:"+codes[0], "tfa-challenge", first.Ticket).data(&second)
	(&client{s: s, http: c.http, cookie: "PBSAuthCookie=" + second.Ticket}).get("/version").want(200, "4.2")
}

func TestSecondFactorsAreManaged(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	const at = "/access/tfa/admin@pbs"
	c.get(at).want(200, `{"data":[]}`)
	c.post(at, "type", "recovery").want(401, "missing password")
	c.post(at, "type", "recovery", "password", "wrong").want(401, "authentication failed")
	c.post("/access/tfa/ghost@pbs", "type", "recovery", "password", password).want(400, "not there")
	phone, err := tfa.New("holdfast", "admin@pbs", randomness{})
	s.ok(err)
	code := func() string { return phone.Code(timeNow().Unix() / phone.Period) }
	c.post(at, "type", "totp", "totp", "nonsense", "value", "123456", "password", password).want(400, "")
	c.post(at, "type", "totp", "totp", phone.URI(), "value", "12345", "password", password).want(400, "")
	var added struct{ ID string }
	c.post(at, "type", "totp", "totp", phone.URI(), "value", code(), "description", "phone", "password", password).data(&added)
	c.get(at).want(200, `{"id":"`+added.ID+`","type":"totp","description":"phone","created":`)
	var codes struct{ Recovery []string }
	c.post(at, "type", "recovery", "password", password).data(&codes)
	if len(codes.Recovery) != 10 {
		t.Errorf("%d recovery codes", len(codes.Recovery))
	}
	c.get("/access/users").want(200, "admin@pbs")
	s.client().post("/access/ticket", "username", "admin@pbs", "password", password).want(200, "invalid")
	c.put("/access/users/admin@pbs/unlock-tfa").want(200, `{"data":false}`)
	c.del(at+"/"+added.ID, "password", password).want(200, "null")
	c.del(at+"/recovery", "password", password).want(200, "null")
	c.del(at+"/recovery", "password", password).want(400, "no such second factor")
	s.client().post("/access/ticket", "username", "admin@pbs", "password", password).want(200, "PBS:admin@pbs")
}

func TestUsersTokensAndRightsAreManaged(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	c.post("/access/users", "userid", "ann@pbs", "password", "a long password", "comment", "Ann", "expire", "4000000000", "email", "ann@example.com").want(200, `{"data":null}`)
	c.post("/access/users", "userid", "ann@pbs").want(400, "there already")
	c.post("/access/users", "userid", "bad id@pbs").want(400, "'userid'")
	c.get("/access/users", "include_tokens", "true").want(200, `{"userid":"ann@pbs","comment":"Ann","expire":4000000000,"email":"ann@example.com"}`)
	c.get("/access/users/ann@pbs").want(200, `"data":{"userid":"ann@pbs"`)

	ann := s.client()
	var in struct{ Ticket, CSRFPreventionToken string }
	ann.post("/access/ticket", "username", "ann@pbs", "password", "a long password").data(&in)
	ann.cookie, ann.csrf = "PBSAuthCookie="+in.Ticket, in.CSRFPreventionToken
	ann.get("/access/users").want(200, `"data":[{"userid":"ann@pbs"`)
	if r := ann.get("/access/users"); strings.Contains(r.Body, "admin@pbs") {
		t.Errorf("a user sees others: %s", r.Body)
	}

	// Users manage their own tokens, and give them what they have themselves.
	var key struct{ Tokenid, Value string }
	ann.post("/access/users/ann@pbs/token/nas", "comment", "the NAS").data(&key)
	if key.Tokenid != "ann@pbs!nas" || len(key.Value) != 36 {
		t.Fatalf("the token is %+v", key)
	}
	ann.post("/access/users/ann@pbs/token/nas").want(400, "there already")
	ann.post("/access/users/admin@pbs/token/nas").want(403, "")
	ann.get("/access/users/ann@pbs/token").want(200, `"data":[{"tokenid":"ann@pbs!nas","token-name":"nas","comment":"the NAS"}]`)
	ann.put("/access/acl", "path", "/datastore/tank", "auth-id", "ann@pbs!nas", "role", "DatastoreBackup").want(200, "null")
	ann.put("/access/acl", "path", "/datastore/tank", "auth-id", "ann@pbs", "role", "Admin").want(403, "")
	nas := s.with("ann@pbs!nas", key.Value)
	nas.get("/admin/datastore/tank/groups").want(403, "") // ann has nothing there
	c.put("/access/acl", "path", "/datastore/tank", "auth-id", "ann@pbs", "role", "DatastoreBackup").want(200, "null")
	nas.get("/admin/datastore/tank/groups").want(200, "[]")
	nas.get("/access/permissions").wantJSON(`{"data":{"/datastore/tank":{"Datastore.Backup":true}}}`)
	ann.get("/access/permissions", "auth-id", "ann@pbs!nas", "path", "/datastore/tank").wantJSON(`{"data":{"/datastore/tank":{"Datastore.Backup":true}}}`)
	nas.get("/access/permissions", "auth-id", "ann@pbs").want(403, "not allowed")
	c.get("/access/acl", "path", "/datastore", "exact", "0").want(200, `{"path":"/datastore/tank","ugid":"ann@pbs","ugid_type":"user","roleid":"DatastoreBackup","propagate":true}`)

	var renewed struct{ Secret string }
	ann.put("/access/users/ann@pbs/token/nas", "regenerate", "1").data(&renewed)
	nas.get("/version").want(401, "authentication failed")
	s.with("ann@pbs!nas", renewed.Secret).get("/version").want(200, "4.2")

	// Passwords.
	ann.put("/access/password", "userid", "ann@pbs", "password", "another password").want(401, "missing password")
	ann.put("/access/password", "userid", "ann@pbs", "password", "another password", "confirmation-password", in.Ticket).want(401, "missing password")
	ann.put("/access/password", "userid", "admin@pbs", "password", "another password", "confirmation-password", "a long password").want(403, "not authorized")
	ann.put("/access/password", "userid", "ann@pbs", "password", "short", "confirmation-password", "a long password").want(400, "")
	ann.put("/access/password", "userid", "ann@pbs", "password", "another password", "confirmation-password", "a long password").want(200, "null")
	s.client().post("/access/ticket", "username", "ann@pbs", "password", "another password").want(200, "PBS:ann@pbs")

	// Digests keep changes of others.
	c.put("/access/users/ann@pbs", "comment", "x", "digest", strings.Repeat("0", 64)).want(400, "changed by somebody else")
	c.put("/access/users/ann@pbs", "enable", "0", "delete", "comment", "delete", "email").want(200, "null")
	c.get("/access/users/ann@pbs").want(200, `{"userid":"ann@pbs","enable":false,"expire":4000000000}`)
	ann.get("/version").want(401, "authentication failed")
	s.with("ann@pbs!nas", renewed.Secret).get("/version").want(401, "authentication failed")
	c.del("/access/users/ann@pbs").want(200, "null")
	if r := c.get("/access/acl"); strings.Contains(r.Body, "ann@pbs") {
		t.Errorf("rights are left of a user who was removed: %s", r.Body)
	}
	c.get("/access/roles").want(200, `{"roleid":"NoAccess","privs":[]`)
	c.get("/access/domains").want(200, `"realm":"pbs"`)
}

func TestDatastoresAreConfigured(t *testing.T) {
	s := newSite(t)
	s.ok(os.Mkdir(s.path("full"), 0o755))
	s.ok(os.WriteFile(filepath.Join(s.path("full"), "x"), nil, 0o644))
	c := s.start().login("admin@pbs")
	c.post("/config/datastore", "name", "x", "path", "/mnt/x").want(400, "'name'")
	c.post("/config/datastore", "name", "pool", "path", "mnt/x").want(400, "'path'")
	c.post("/config/datastore", "name", "pool", "path", "/").want(400, "'path'")
	for _, tc := range []struct{ path, want string }{
		{s.path("full"), "full"},
		{s.path("tank"), "is the datastore 'tank' already"},
		{s.path("tank") + "/ns/a", "lie in one another"},
		{s.dir, "lie in one another"},
	} {
		if end := c.wait(c.post("/config/datastore", "name", "pool", "path", tc.path)); end == "OK" || !strings.Contains(end, tc.want) {
			t.Errorf("a datastore at %s: %s", tc.path, end)
		}
	}
	// A new one has 65536 directories, which take their time; one that is there has not.
	s.ok(dir.Create(t.Context(), s.path("pool"), datastore.CreateOptions{Lazy: true}))
	if end := c.wait(c.post("/config/datastore", "name", "pool", "path", s.path("pool"), "reuse-datastore", "1", "comment", "new", "verify-new", "true", "tuning", "sync-level=none")); end != "OK" {
		t.Fatalf("the task ended with %s", end)
	}
	c.get("/config/datastore/pool").want(200, `"data":{"comment":"new","name":"pool","path":"`+s.path("pool")+`","tuning":"sync-level=none","verify-new":true}`)
	c.get("/admin/datastore").want(200, `"store":"pool","comment":"new"`)
	c.put("/config/datastore/pool", "delete", "comment", "maintenance-mode", `type=read-only,message="moving, wait"`).want(200, "null")
	c.get("/admin/datastore").want(200, `"store":"pool","comment":null,"mount-status":"nonremovable","maintenance":"read-only"`)
	c.get("/admin/datastore/pool/groups").want(200, "[]")
	c.post("/admin/datastore/pool/namespace", "name", "a").want(400, "datastore 'pool' is in read-only maintenance mode: moving, wait")
	c.post("/admin/datastore/pool/gc").want(400, "maintenance mode")
	c.put("/config/datastore/pool", "maintenance-mode", "offline").want(200, "null")
	c.get("/admin/datastore/pool/groups").want(400, "offline maintenance mode")
	c.get("/status/datastore-usage").want(200, `"error":"datastore 'pool' is in offline maintenance mode"`)

	s.grant("/datastore/pool/a", "admin@pbs", "DatastoreAudit")
	if end := c.wait(c.del("/config/datastore/pool")); end != "OK" {
		t.Errorf("the removal ended with %s", end)
	}
	if r := c.get("/access/acl"); strings.Contains(r.Body, "pool") {
		t.Errorf("rights on it are left: %s", r.Body)
	}
	if _, err := os.Stat(filepath.Join(s.path("pool"), ".chunks")); err != nil {
		t.Errorf("its data is gone: %v", err)
	}
	if end := c.wait(c.post("/config/datastore", "name", "pool", "path", s.path("pool"), "reuse-datastore", "1")); end != "OK" {
		t.Errorf("it cannot be taken in again: %s", end)
	}
	c.get("/admin/datastore/tank/active-operations").want(200, `{"data":{"read":0,"write":0}}`)
}

func TestBrokenStoresDoNotHideOthers(t *testing.T) {
	s := newSite(t)
	s.addStore("gone")
	s.ok(os.RemoveAll(s.path("gone")))
	s.addStore("bucket")
	s.setStore("bucket", "backend", "type=s3,client=x,bucket=y")
	c := s.start().login("admin@pbs")
	c.get("/admin/datastore").want(200, `"store":"gone"`)
	c.get("/admin/datastore/gone/groups").want(400, "there is no such directory")
	c.get("/admin/datastore/bucket/groups").want(400, `object store "x": not found`)
	c.get("/status/datastore-usage").want(200, `"store":"tank","total":`)
}

func TestHowFullADatastoreWasTellsWhenItWillBeFull(t *testing.T) {
	s := newSite(t)
	values := make([]string, 20)
	for i := range values {
		values[i] = fmt.Sprint(0.5 + 0.01*float64(i)) // a percent in half an hour
	}
	values[3] = "null"
	start := timeNow().Unix()/1800*1800 - 20*1800
	s.ok(os.MkdirAll(filepath.Join(s.conf.Path(), "state/usage"), 0o755))
	s.ok(os.WriteFile(filepath.Join(s.conf.Path(), "state/usage/tank.json"),
		fmt.Appendf(nil, `{"start":%d,"step":1800,"values":[%s]}`, start, strings.Join(values, ",")), 0o644))
	c := s.start().login("admin@pbs")
	var list []struct {
		History      []*float64
		HistoryStart int64 `json:"history-start"`
		HistoryDelta int64 `json:"history-delta"`
		Full         int64 `json:"estimated-full-date"`
	}
	for range 500 { // until the server has looked for the first time
		list = nil
		c.get("/status/datastore-usage").data(&list)
		if len(list[0].History) > 20 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	got := list[0]
	if len(got.History) != 21 || got.History[3] != nil || *got.History[1] != 0.51 || got.HistoryStart != start || got.HistoryDelta != 1800 || got.Full == 0 {
		t.Errorf("the usage is %+v", got)
	}
}

func TestTheNodeTellsHowItIsDoing(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	c.get("/nodes/localhost/status").want(200, `"info":{"fingerprint":"`+s.server.Fingerprint()+`"}`)
	var id struct {
		ID string `json:"pbs-instance-id"`
	}
	c.get("/nodes/localhost/identity").data(&id)
	if len(id.ID) != 32 {
		t.Errorf("the identity is %q", id.ID)
	}
	if r := c.send(http.MethodHead, "/api2/json/version", "", ""); r.Status != 200 || r.Body != "" {
		t.Errorf("HEAD: %d %q", r.Status, r.Body)
	}
}

func TestAWriteOnlyTokenSeesNothingOfWhatItWrote(t *testing.T) {
	s := newSite(t)
	s.addUser("writer@pbs")
	key := s.addToken("writer@pbs!nas")
	s.grant("/datastore/tank", "writer@pbs", access.DatastoreWriteOnly)
	s.grant("/datastore/tank", "writer@pbs!nas", access.DatastoreWriteOnly)
	s.small("tank", snapshot("", "vm/100", day1), "writer@pbs!nas")
	s.start()
	c := s.with("writer@pbs!nas", key)
	const at = "/admin/datastore/tank"
	c.get(at+"/snapshots").want(200, `"backup-id":"100"`)
	for _, path := range []string{"/files", "/notes", "/protected", "/download", "/download-decoded", "/catalog", "/pxar-file-download"} {
		more := map[string][]string{"/download": {"file-name", "vm.conf.blob"}, "/download-decoded": {"file-name", "vm.conf.blob"}, "/catalog": {"filepath", "/"}, "/pxar-file-download": {"filepath", "/"}}
		c.get(at+path, with(snap, more[path]...)...).want(403, "")
	}
	c.del(at+"/snapshots", snap...).want(403, "")
	c.del(at+"/groups", group...).want(403, "")
	c.post(at+"/prune", with(group, "keep-last", "1")...).want(403, "")
	c.put(at+"/notes", with(snap, "notes", "x")...).want(403, "")
	c.put(at+"/protected", with(snap, "protected", "0")...).want(403, "")
	c.post(at+"/verify", group...).want(403, "")
	c.post(at+"/gc").want(403, "")
	c.get("/reader", with(snap, "store", "tank")...).want(400, "permission check failed")
}
