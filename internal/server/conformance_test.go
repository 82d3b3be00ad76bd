package server_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/format/tapefile"
	"github.com/holdfast-backup/holdfast/internal/property"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/api"
	"github.com/holdfast-backup/holdfast/internal/server/buckets"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/tape/config"
	"github.com/holdfast-backup/holdfast/internal/tape/media"
)

// who are those who try every call, in this order:
//
//	a  admin@pbs      Admin everywhere
//	u  audit@pbs      DatastoreAudit
//	r  reader@pbs     DatastoreReader: Audit, Read, Verify
//	o  owner@pbs      DatastorePowerUser: Backup, Prune; owns vm/100
//	t  other@pbs      the same, owns nothing
//	w  writer@pbs!nas   DatastoreWriteOnly; owns nothing that is asked for
//	n  nobody@pbs     nothing
const who = "aurotwn"

// What becomes of a call of each: y it is made, n 403, x the group is somebody
// else's, b 400 (the reader's upgrade), f 403 by a rule of the call itself.
type row struct {
	call   string
	answer string
	params []string
}

var (
	snap  = []string{"backup-type", "vm", "backup-id", "100", "backup-time", "1717600000"}
	group = snap[:4]
)

func with(base []string, more ...string) []string { return append(slices.Clone(base), more...) }

// rows has every call of the table.
var rows = []row{
	{"GET /ping", "yyyyyyy", nil},
	{"GET /version", "yyyyyyy", nil},
	{"GET /openapi.json", "yyyyyyy", nil},
	{"GET /metrics", "ynnnnnn", nil},
	{"GET /nodes/{node}/identity", "yyyyyyy", nil},
	{"GET /nodes/{node}/status", "ynnnnnn", nil},
	{"GET /nodes/{node}/rrd", "ynnnnnn", []string{"timeframe", "hour", "cf", "MAX"}},
	{"GET /nodes", "yyyyyyy", nil},
	{"GET /nodes/{node}/time", "yyyyyyy", nil},
	{"GET /nodes/{node}/journal", "ynnnnnn", []string{"lastentries", "1"}},
	{"GET /nodes/{node}/syslog", "ynnnnnn", []string{"limit", "1"}},
	{"GET /nodes/{node}/certificates/info", "ynnnnnn", nil},
	{"POST /nodes/{node}/certificates/custom", "ynnnnnn", []string{"certificates", "none"}},
	{"DELETE /nodes/{node}/certificates/custom", "ynnnnnn", nil},

	{"POST /access/ticket", "yyyyyyy", []string{"username", "admin@pbs", "password", password}},
	{"DELETE /access/ticket", "yyyyyyy", nil},
	{"PUT /access/password", "yffffff", []string{"userid", "admin@pbs", "password", password, "confirmation-password", password}},
	{"GET /access/permissions", "yyyyyyy", nil},
	{"GET /access/domains", "yyyyyyy", nil},
	{"GET /access/users", "yyyyyyy", nil},
	{"POST /access/users", "ynnnnnn", []string{"userid", "new@pbs"}},
	{"GET /access/users/{userid}", "ynnnnnn", nil},
	{"PUT /access/users/{userid}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /access/users/{userid}", "ynnnnnn", nil},
	{"PUT /access/users/{userid}/unlock-tfa", "ynnnnnn", nil},
	{"GET /access/users/{userid}/token", "ynnnnnn", nil},
	{"GET /access/users/{userid}/token/{token-name}", "ynnnnnn", nil},
	{"POST /access/users/{userid}/token/{token-name}", "ynnnnnn", nil},
	{"PUT /access/users/{userid}/token/{token-name}", "ynnnnnn", nil},
	{"DELETE /access/users/{userid}/token/{token-name}", "ynnnnnn", nil},
	{"GET /access/tfa", "yyyyyyy", nil},
	{"GET /access/tfa/{userid}", "ynnnnnn", nil},
	{"GET /access/tfa/{userid}/{id}", "ynnnnnn", nil},
	{"PUT /access/tfa/{userid}/{id}", "ynnnnnn", []string{"description", "x", "password", password}},
	{"POST /access/tfa/{userid}", "ynnnnnn", []string{"type", "recovery", "password", password}},
	{"DELETE /access/tfa/{userid}/{id}", "ynnnnnn", []string{"password", password}},
	{"GET /access/roles", "yyyyyyy", nil},
	{"GET /access/acl", "yyyyyyy", nil},
	{"PUT /access/acl", "ynnnnnn", []string{"path", "/datastore/tank", "auth-id", "spare@pbs", "role", "DatastoreAudit"}},

	{"GET /admin/datastore", "yyyyyyy", nil},
	{"GET /admin/datastore/{store}/status", "yyyyyyn", nil},
	{"GET /admin/datastore/{store}/rrd", "yyyyynn", []string{"timeframe", "day"}},
	{"GET /admin/datastore/{store}/active-operations", "yyynnnn", nil},
	{"GET /status/datastore-usage", "yyyyyyy", nil},

	{"GET /admin/datastore/{store}/groups", "yyyyyyn", nil},
	{"GET /admin/datastore/{store}/snapshots", "yyyyyyn", nil},
	{"GET /admin/datastore/{store}/files", "yyyyxnn", snap},
	{"GET /admin/datastore/{store}/namespace", "yyyyyyn", nil},

	{"DELETE /admin/datastore/{store}/snapshots", "ynnyxnn", snap},
	{"DELETE /admin/datastore/{store}/groups", "ynnyxnn", group},
	{"GET /admin/datastore/{store}/notes", "yyyyxnn", snap},
	{"PUT /admin/datastore/{store}/notes", "ynnyxnn", with(snap, "notes", "x")},
	{"GET /admin/datastore/{store}/group-notes", "yyyyxnn", group},
	{"PUT /admin/datastore/{store}/group-notes", "ynnyxnn", with(group, "notes", "x")},
	{"GET /admin/datastore/{store}/protected", "yyyyxnn", snap},
	{"PUT /admin/datastore/{store}/protected", "ynnyxnn", with(snap, "protected", "0")},
	{"POST /admin/datastore/{store}/change-owner", "ynnffnn", with(group, "new-owner", "owner@pbs")},
	{"POST /admin/datastore/{store}/namespace", "ynnnnnn", []string{"name", "new"}},
	{"DELETE /admin/datastore/{store}/namespace", "ynnnnnn", []string{"ns", "gone"}},
	{"POST /admin/datastore/{store}/upload-backup-log", "xnnyxxn", snap},
	{"POST /admin/datastore/{store}/move-group", "ynnyxnn", with(group, "target-ns", "gone")},
	{"POST /admin/datastore/{store}/move-namespace", "ynnnnnn", []string{"ns", "gone", "target-ns", "went"}},

	{"POST /admin/datastore/{store}/prune", "ynnyxnn", with(group, "keep-last", "1", "dry-run", "1")},
	{"POST /admin/datastore/{store}/prune-datastore", "ynnyynn", []string{"keep-last", "1", "dry-run", "1"}},
	{"POST /admin/datastore/{store}/gc", "ynnnnnn", nil},
	{"GET /admin/datastore/{store}/gc", "yyynnnn", nil},
	{"POST /admin/datastore/{store}/verify", "ynyyxnn", group},

	{"GET /admin/datastore/{store}/download", "ynyyxnn", with(snap, "file-name", "vm.conf.blob")},
	{"GET /admin/datastore/{store}/download-decoded", "ynyyxnn", with(snap, "file-name", "vm.conf.blob")},
	{"GET /admin/datastore/{store}/catalog", "ynyyxnn", with(snap, "filepath", "/")},
	{"GET /admin/datastore/{store}/pxar-file-download", "ynyyxnn", with(snap, "filepath", base64.StdEncoding.EncodeToString([]byte("/root.pxar.didx")))},

	{"GET /nodes/{node}/tasks", "yyyyyyy", nil},
	{"GET /nodes/{node}/tasks/{upid}/status", "yffffff", nil},
	{"GET /nodes/{node}/tasks/{upid}/log", "yffffff", nil},
	{"DELETE /nodes/{node}/tasks/{upid}", "ynnnnnn", nil},

	{"GET /config/datastore", "yyyyyyy", nil},
	{"POST /config/datastore", "ynnnnnn", []string{"name", "pool", "path", "/nowhere/pool", "reuse-datastore", "1"}},
	{"GET /config/datastore/{name}", "yyynnnn", nil},
	{"PUT /config/datastore/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/datastore/{name}", "ynnnnnn", []string{"digest", strings.Repeat("0", 64)}},

	{"GET /config/prune", "yyyyyyy", nil},
	{"POST /config/prune", "ynnnnnn", []string{"id", "new", "store", "tank", "keep-last", "1", "schedule", "daily"}},
	{"GET /config/prune/{id}", "yyynnnn", nil},
	{"PUT /config/prune/{id}", "ynnnnnn", []string{"keep-last", "2"}},
	{"DELETE /config/prune/{id}", "ynnnnnn", nil},
	{"GET /admin/prune", "yyyyyyy", nil},
	{"POST /admin/prune/{id}/run", "ynnnnnn", nil},
	{"GET /config/verify", "yyyyyyy", nil},
	{"POST /config/verify", "ynynnnn", []string{"id", "new", "store", "tank"}},
	{"GET /config/verify/{id}", "yyynnnn", nil},
	{"PUT /config/verify/{id}", "ynynnnn", []string{"comment", "x"}},
	{"DELETE /config/verify/{id}", "ynynnnn", nil},
	{"GET /admin/verify", "yyyyyyy", nil},
	{"POST /admin/verify/{id}/run", "ynynnnn", nil},
	{"GET /config/sync", "yyyyyyy", nil},
	{"POST /config/sync", "ynnnnnn", []string{"id", "new", "store", "tank", "remote", "tank", "remote-store", "far"}},
	{"GET /config/sync/{id}", "ynnnnnn", nil},
	{"PUT /config/sync/{id}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/sync/{id}", "ynnnnnn", nil},
	{"GET /admin/sync", "yyyyyyy", nil},
	{"POST /admin/sync/{id}/run", "ynnnnnn", nil},
	{"GET /admin/gc", "yyyyyyy", nil},
	{"GET /admin/gc/{store}", "yyynnnn", nil},
	{"POST /pull", "ynnyynn", []string{"store", "tank", "remote-store", "tank", "ns", "x", "group-filter", "group:vm/none"}},
	{"POST /push", "ynnyynn", []string{"store", "tank", "remote-store", "tank", "remote-ns", "x", "group-filter", "group:vm/none"}},

	{"GET /config/s3", "yyyyyyy", nil},
	{"POST /config/s3", "ynnnnnn", []string{"id", "new", "endpoint", "127.0.0.1", "access-key", "x", "secret-key", "x"}},
	{"GET /config/s3/{id}", "ynnnnnn", nil},
	{"PUT /config/s3/{id}", "ynnnnnn", []string{"region", "x"}},
	{"DELETE /config/s3/{id}", "ynnnnnn", nil},
	{"GET /config/s3/{id}/list-buckets", "ynnnnnn", nil},
	{"PUT /admin/s3/{s3-client-id}/check", "ynnnnnn", []string{"bucket", "backups"}},

	{"GET /config/remote", "yyyyyyy", nil},
	{"POST /config/remote", "ynnnnnn", []string{"name", "new", "host", "127.0.0.1", "auth-id", "a@pbs", "password", "x"}},
	{"GET /config/remote/{name}", "ynnnnnn", nil},
	{"PUT /config/remote/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/remote/{name}", "ynnnnnn", nil},
	{"GET /config/remote/{name}/scan", "ynnnnnn", nil},
	{"GET /config/remote/{name}/scan/{store}/namespaces", "ynnnnnn", nil},
	{"GET /config/remote/{name}/scan/{store}/groups", "ynnnnnn", nil},
	{"GET /config/notifications/targets", "ynnnnnn", nil},
	{"POST /config/notifications/targets/{name}/test", "ynnnnnn", nil},
	{"GET /config/notifications/matcher-fields", "ynnnnnn", nil},
	{"GET /config/notifications/matcher-field-values", "ynnnnnn", nil},
	{"GET /config/notifications/endpoints/gotify", "ynnnnnn", nil},
	{"POST /config/notifications/endpoints/gotify", "ynnnnnn", []string{"name", "new", "server", "https://localhost:1", "token", "x"}},
	{"GET /config/notifications/endpoints/gotify/{name}", "ynnnnnn", nil},
	{"PUT /config/notifications/endpoints/gotify/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/notifications/endpoints/gotify/{name}", "ynnnnnn", nil},
	{"GET /config/notifications/endpoints/sendmail", "ynnnnnn", nil},
	{"POST /config/notifications/endpoints/sendmail", "ynnnnnn", []string{"name", "new2", "mailto", "a@example.org"}},
	{"GET /config/notifications/endpoints/sendmail/{name}", "ynnnnnn", nil},
	{"PUT /config/notifications/endpoints/sendmail/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/notifications/endpoints/sendmail/{name}", "ynnnnnn", nil},
	{"GET /config/notifications/endpoints/smtp", "ynnnnnn", nil},
	{"POST /config/notifications/endpoints/smtp", "ynnnnnn", []string{"name", "new3", "mailto", "a@example.org", "server", "localhost"}},
	{"GET /config/notifications/endpoints/smtp/{name}", "ynnnnnn", nil},
	{"PUT /config/notifications/endpoints/smtp/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/notifications/endpoints/smtp/{name}", "ynnnnnn", nil},
	{"GET /config/notifications/endpoints/webhook", "ynnnnnn", nil},
	{"POST /config/notifications/endpoints/webhook", "ynnnnnn", []string{"name", "new4", "url", "https://localhost:1", "method", "post"}},
	{"GET /config/notifications/endpoints/webhook/{name}", "ynnnnnn", nil},
	{"PUT /config/notifications/endpoints/webhook/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/notifications/endpoints/webhook/{name}", "ynnnnnn", nil},
	{"GET /config/notifications/matchers", "ynnnnnn", nil},
	{"POST /config/notifications/matchers", "ynnnnnn", []string{"name", "new5"}},
	{"GET /config/notifications/matchers/{name}", "ynnnnnn", nil},
	{"PUT /config/notifications/matchers/{name}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/notifications/matchers/{name}", "ynnnnnn", nil},

	// Without the header Upgrade those who may are refused with 400.
	{"GET /config/tape-backup-job", "yyyyyyy", nil},
	{"POST /config/tape-backup-job", "ynnnnnn", []string{"id", "new", "store", "tank", "pool", "daily", "drive", "lto"}},
	{"GET /config/tape-backup-job/{id}", "ynnnnnn", nil},
	{"PUT /config/tape-backup-job/{id}", "ynnnnnn", []string{"comment", "x"}},
	{"DELETE /config/tape-backup-job/{id}", "ynnnnnn", nil},
	{"GET /config/drive", "yyyyyyy", nil},
	{"POST /config/drive", "ynnnnnn", []string{"name", "lto2", "path", "serial:2"}},
	{"GET /config/drive/{name}", "ynnnnnn", nil},
	{"PUT /config/drive/{name}", "ynnnnnn", []string{"path", "serial:3"}},
	{"DELETE /config/drive/{name}", "ynnnnnn", nil},
	{"GET /config/changer", "yyyyyyy", nil},
	{"POST /config/changer", "ynnnnnn", []string{"name", "lib2", "path", "serial:4"}},
	{"GET /config/changer/{name}", "ynnnnnn", nil},
	{"PUT /config/changer/{name}", "ynnnnnn", []string{"eject-before-unload", "1"}},
	{"DELETE /config/changer/{name}", "ynnnnnn", nil},
	{"GET /config/media-pool", "yyyyyyy", nil},
	{"POST /config/media-pool", "ynnnnnn", []string{"name", "weekly"}},
	{"GET /config/media-pool/{name}", "ynnnnnn", nil},
	{"PUT /config/media-pool/{name}", "ynnnnnn", []string{"retention", "overwrite"}},
	{"DELETE /config/media-pool/{name}", "ynnnnnn", nil},
	{"GET /config/tape-encryption-keys", "ynnnnnn", nil},
	{"POST /config/tape-encryption-keys", "ynnnnnn", []string{"password", password, "kdf", "pbkdf2"}},
	{"GET /config/tape-encryption-keys/{tape-encryption-key-fingerprint}", "ynnnnnn", nil},
	{"PUT /config/tape-encryption-keys/{tape-encryption-key-fingerprint}", "ynnnnnn", []string{"password", password, "new-password", password}},
	{"DELETE /config/tape-encryption-keys/{tape-encryption-key-fingerprint}", "ynnnnnn", nil},

	{"GET /tape/drive", "yyyyyyy", nil},
	{"GET /tape/drive/{drive}/status", "ynnnnnn", nil},
	{"GET /tape/drive/{drive}/cartridge-memory", "ynnnnnn", nil},
	{"GET /tape/drive/{drive}/volume-statistics", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/load-media", "ynnnnnn", []string{"label-text", "TAPE01L8"}},
	{"POST /tape/drive/{drive}/load-slot", "ynnnnnn", []string{"source-slot", "1"}},
	{"PUT /tape/drive/{drive}/export-media", "ynnnnnn", []string{"label-text", "TAPE01L8"}},
	{"POST /tape/drive/{drive}/unload", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/eject-media", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/rewind", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/format-media", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/label-media", "ynnnnnn", []string{"label-text", "TAPE01L8"}},
	{"POST /tape/drive/{drive}/barcode-label-media", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/restore-key", "ynnnnnn", []string{"password", password}},
	{"GET /tape/drive/{drive}/read-label", "ynnnnnn", nil},
	{"PUT /tape/drive/{drive}/clean", "ynnnnnn", nil},
	{"GET /tape/drive/{drive}/inventory", "ynnnnnn", nil},
	{"PUT /tape/drive/{drive}/inventory", "ynnnnnn", nil},
	{"POST /tape/drive/{drive}/catalog", "ynnnnnn", nil},
	{"GET /tape/scan-drives", "ynnnnnn", nil},
	{"GET /tape/scan-changers", "ynnnnnn", nil},
	{"GET /tape/changer", "yyyyyyy", nil},
	{"GET /tape/changer/{name}/status", "ynnnnnn", nil},
	{"POST /tape/changer/{name}/transfer", "ynnnnnn", []string{"from", "1", "to", "2"}},
	{"GET /tape/media/list", "yyyyyyy", nil},
	{"GET /tape/media/media-sets", "yyyyyyy", nil},
	{"GET /tape/media/content", "yyyyyyy", nil},
	{"GET /tape/media/destroy", "ynnnnnn", []string{"label-text", "TAPE01L8"}},
	{"POST /tape/media/move", "ynnnnnn", []string{"label-text", "TAPE01L8", "vault-name", "safe"}},
	{"GET /tape/media/list/{uuid}/status", "ynnnnnn", nil},
	{"POST /tape/media/list/{uuid}/status", "ynnnnnn", []string{"status", "full"}},
	{"GET /tape/backup", "yyyyyyy", nil},
	{"POST /tape/backup", "ynnnnnn", []string{"store", "tank", "pool", "daily", "drive", "lto"}},
	{"POST /tape/backup/{id}", "ynnnnnn", nil},
	{"POST /tape/restore", "ynnnnnn", []string{"media-set", tapeUUID, "store", "tank", "drive", "lto"}},

	{"GET /backup", "ynnyyyn", with(snap, "store", "tank")},
	{"GET /reader", "ybyyxbb", with(snap, "store", "tank")},
}

// people starts a server on which all of who are known.
func people(t *testing.T) (*site, map[byte]*client) {
	s := newSite(t)
	for _, id := range []string{"audit", "reader", "owner", "other", "writer", "nobody", "spare"} {
		s.addUser(id + "@pbs")
	}
	key := s.addToken("writer@pbs!nas")
	for id, role := range map[string]access.Role{
		"audit@pbs": "DatastoreAudit", "reader@pbs": "DatastoreReader", "owner@pbs": "DatastorePowerUser", "other@pbs": "DatastorePowerUser",
		"writer@pbs": access.DatastoreWriteOnly, "writer@pbs!nas": access.DatastoreWriteOnly,
	} {
		s.grant("/datastore/tank", id, role)
	}
	s.start()
	return s, map[byte]*client{
		'a': s.login("admin@pbs"), 'u': s.login("audit@pbs"), 'r': s.login("reader@pbs"), 'o': s.login("owner@pbs"),
		't': s.login("other@pbs"), 'w': s.with("writer@pbs!nas", key), 'n': s.login("nobody@pbs"),
	}
}

// refill makes what calls of the test may have removed.
func (s *site) refill() {
	s.t.Helper()
	s.small("tank", snapshot("", "vm/100", day1), "owner@pbs")
	p := secret.New([]byte("x"))
	for _, err := range []error{
		jobs.SetRemote(s.t.Context(), s.conf, "tank", "", true, jobs.Values{"host": {"127.0.0.1"}, "port": {"1"}, "auth-id": {"a@pbs"}}, &p),
		buckets.Set(s.t.Context(), s.conf, "some", "", true, property.Values{"endpoint": {"127.0.0.1"}, "port": {"1"}, "access-key": {"x"}}, &p),
		jobs.Add(s.t.Context(), s.conf, jobs.Prune, "some", jobs.Values{"store": {"tank"}, "keep-last": {"1"}}),
		jobs.Add(s.t.Context(), s.conf, jobs.Verify, "some", jobs.Values{"store": {"tank"}}),
		jobs.Add(s.t.Context(), s.conf, jobs.Sync, "some", jobs.Values{"store": {"tank"}, "remote-store": {"pool"}}),
	} {
		if !errors.Is(err, jobs.ErrExists) {
			s.ok(err)
		}
	}
	s.refillTapes()
}

const tapeUUID = "9da37a55-aac7-4deb-91c6-482b3b675f30" // of a medium, and of its media set

// refillTapes makes a drive that is not there, and a medium.
func (s *site) refillTapes() {
	s.t.Helper()
	c := config.New(s.conf)
	for _, sec := range []struct {
		kind config.Kind
		name string
		has  property.Values
	}{
		{config.LTO, "lto", property.Values{"path": {"serial:1"}}},
		{config.Pool, "daily", property.Values{}},
		{config.Job, "some", property.Values{"store": {"tank"}, "pool": {"daily"}, "drive": {"lto"}, "notification-mode": {"notification-system"}}},
	} {
		if err := c.Create(s.t.Context(), sec.kind, sec.name, sec.has); !errors.Is(err, config.ErrExists) {
			s.ok(err)
		}
	}
	st, err := media.Open(filepath.Join(s.conf.Path(), "state", "tape"), time.UTC)
	s.ok(err)
	id := uuid.MustParse(tapeUUID)
	inv, err := st.Inventory()
	s.ok(err)
	if _, err := inv.Find(id); err == nil {
		return // a write for each call of the test takes its time
	}
	s.ok(st.Store(s.t.Context(), tapefile.Label{UUID: id, Text: "TAPE01L8", Ctime: day1}, &tapefile.SetLabel{Pool: "daily", UUID: id, Ctime: day1}, true))
}

// target is the path of a call with something in the place of its variables.
func target(call, task string) string {
	return "/api2/json" + strings.NewReplacer(
		"{store}", "tank", "{name}", "tank", "{node}", "localhost", "{userid}", "spare@pbs", "{token-name}", "some", "{id}", "some", "{s3-client-id}", "some", "{upid}", url.PathEscape(task), "{drive}", "lto",
		"{uuid}", tapeUUID, "{tape-encryption-key-fingerprint}", strings.Repeat("ab:", 31)+"ab",
	).Replace(call)
}

// request sends a call of the table with parameters where they belong.
func (c *client) request(call *api.Call, path string, params []string) reply {
	query, form := "", values(params)
	if call.Method == http.MethodGet || call.Method == http.MethodDelete || call.Do.HasBody() {
		query, form = "?"+form, ""
	}
	media := ""
	if form != "" {
		media = "application/x-www-form-urlencoded"
	}
	return c.send(call.Method, path+query, media, form)
}

func TestEveryCallIsForThoseWhoMay(t *testing.T) {
	s, clients := people(t)
	task := s.gcTask(clients['a'])
	byName := map[string]row{}
	for _, r := range rows {
		byName[r.call] = r
	}
	for _, call := range s.server.Table().Calls() {
		r, ok := byName[call.Name()]
		if !ok {
			t.Errorf("%s has no row in this test", call.Name())
			continue
		}
		delete(byName, call.Name())
		for i, letter := range []byte(who) {
			s.refill()
			got := clients[letter].request(call, target(call.Path, task), r.params)
			class := classOf(got)
			if want := r.answer[i]; class != want && !(want == 'f' && class == 'n') {
				t.Errorf("%s by %c: %c, want %c: %d %s", call.Name(), letter, class, want, got.Status, got.Body)
			}
		}
	}
	for name := range byName {
		t.Errorf("there is no call %s", name)
	}
}

// classOf says which of the letters of a row an answer is.
func classOf(r reply) byte {
	switch {
	case r.Status == http.StatusForbidden, r.Status == http.StatusUnauthorized:
		return 'n'
	case strings.Contains(r.Body, "owner check failed"), strings.Contains(r.Body, "belongs to someone else"):
		return 'x'
	case r.Status == http.StatusBadRequest && strings.Contains(r.Body, "permission check failed"):
		return 'b'
	}
	return 'y'
}

func TestNoCallIsMadeWithoutALoginOrWithForgedOnes(t *testing.T) {
	s, clients := people(t)
	a := clients['a']
	stranger := s.client()
	noCSRF := &client{s: s, http: a.http, cookie: a.cookie}
	badCSRF := &client{s: s, http: a.http, cookie: a.cookie, csrf: "66F00000:" + strings.Repeat("A", 43)}
	otherCSRF := &client{s: s, http: a.http, cookie: a.cookie, csrf: clients['o'].csrf}
	badTicket := &client{s: s, http: a.http, cookie: a.cookie[:len(a.cookie)-4] + "AAAA", csrf: a.csrf}
	badToken := s.with("writer@pbs!nas", "00000000-0000-0000-0000-000000000000")
	noToken := s.with("writer@pbs!none", "00000000-0000-0000-0000-000000000000")
	byName := map[string]row{}
	for _, r := range rows {
		byName[r.call] = r
	}
	for _, call := range s.server.Table().Calls() {
		if !call.NeedsLogin() {
			continue
		}
		path, params := target(call.Path, "x"), byName[call.Name()].params
		tries := map[string]*client{"no ticket": stranger, "a forged ticket": badTicket, "a wrong secret": badToken, "an unknown token": noToken}
		if call.Method != http.MethodGet {
			tries["no CSRF token"], tries["a forged CSRF token"], tries["the CSRF token of another"] = noCSRF, badCSRF, otherCSRF
		}
		for name, c := range tries {
			got := c.request(call, path, params)
			if got.Status != http.StatusUnauthorized || got.Body != "authentication failed" {
				t.Errorf("%s with %s: %d %s", call.Name(), name, got.Status, got.Body)
			}
			if !strings.HasPrefix(got.Header.Get("Set-Cookie"), "__Host-PBSAuthCookie=; Expires=") {
				t.Errorf("%s with %s: the cookie is not taken back: %v", call.Name(), name, got.Header)
			}
		}
	}
	stranger.get("/no/such/path").want(401, "authentication failed")
	a.get("/no/such/path").want(404, "not found")
	noCSRF.send("PATCH", "/api2/json/version", "", "").want(401, "")
	a.send("PATCH", "/api2/json/version", "", "").want(404, "not found")
}

// gcTask runs a garbage collection of somebody and returns its UPID.
func (s *site) gcTask(c *client) string {
	s.t.Helper()
	r := c.post("/admin/datastore/tank/gc")
	if end := c.wait(r); end != "OK" {
		s.t.Fatalf("the collection ended with %s", end)
	}
	var id string
	r.data(&id)
	return id
}
