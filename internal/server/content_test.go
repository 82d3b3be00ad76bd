package server_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
)

// mask makes what differs from run to run the same.
func mask(s string) string {
	for pattern, with := range map[string]string{
		`UPID:[^"]+`: "UPID", `"size":\d+`: `"size":1`, `"mtime":\d+`: `"mtime":1`, `[0-9a-f]{64}`: "DIGEST",
	} {
		s = regexp.MustCompile(pattern).ReplaceAllString(s, with)
	}
	return s
}

func (r reply) wantJSON(text string) {
	r.t.Helper()
	if got := mask(r.Body); r.Status != 200 || got != text {
		r.t.Errorf("%s: %d\n%s\nwant\n%s", r.name, r.Status, got, text)
	}
}

func TestListsHaveTheShapesThatClientsKnow(t *testing.T) {
	s := newSite(t)
	s.fill("tank", snapshot("", "vm/100", day1), "owner@pbs", nil, backup.DetectLegacy)
	s.small("tank", snapshot("", "host/h", day1), "admin@pbs!nas")
	s.fill("tank", snapshot("a", "ct/7", day1), "owner@pbs", nil, backup.DetectMetadata)
	s.addUser("owner@pbs")
	s.grant("/datastore/tank", "owner@pbs", "DatastoreBackup")
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank"

	c.get("/admin/datastore").wantJSON(`{"data":[{"store":"tank","comment":null,"mount-status":"nonremovable","backend-type":"filesystem"}]}`)
	vm := `{"backup-type":"vm","backup-id":"100","last-backup":1717600000,"backup-count":1,"files":["catalog.pcat1.didx","disk.img.fidx","index.json.blob","root.pxar.didx","vm.conf.blob"],"owner":"owner@pbs"}`
	c.get(at + "/groups").wantJSON(`{"data":[` +
		`{"backup-type":"host","backup-id":"h","last-backup":1717600000,"backup-count":1,"files":["index.json.blob","vm.conf.blob"],"owner":"admin@pbs!nas"},` + vm + `]}`)
	s.login("owner@pbs").get(at + "/groups").wantJSON(`{"data":[` + vm + `]}`)
	c.get(at+"/groups", "ns", "a").want(200, `"backup-type":"ct","backup-id":"7"`)
	c.get(at+"/groups", "ns", "b").want(400, "not found")

	files := `{"filename":"vm.conf.blob","crypt-mode":"none","size":1},{"filename":"disk.img.fidx","crypt-mode":"none","size":1},` +
		`{"filename":"root.pxar.didx","crypt-mode":"none","size":1},{"filename":"catalog.pcat1.didx","crypt-mode":"none","size":1},` +
		`{"filename":"index.json.blob","crypt-mode":"none","size":1}`
	c.get(at+"/files", snap...).wantJSON(`{"data":[` + files + `]}`)
	c.get(at+"/snapshots", "backup-type", "vm").wantJSON(`{"data":[{"backup-type":"vm","backup-id":"100","backup-time":1717600000,"comment":"first line",` +
		`"files":[` + files + `],"size":1,"owner":"owner@pbs","protected":false}]}`)
	c.get(at+"/snapshots", "backup-type", "vm", "backup-id", "100").want(200, `"backup-id":"100"`)
	c.get(at+"/snapshots", "backup-id", "h").want(200, `"backup-id":"h"`)
	c.get(at+"/snapshots", "backup-type", "vm", "backup-id", "none").wantJSON(`{"data":[]}`)
	c.get(at+"/snapshots", "backup-type", "vm", "backup-id", "none", "ns", "none").want(400, "not found")

	c.get(at + "/namespace").wantJSON(`{"data":[{"ns":""},{"ns":"a"}]}`)
	c.get(at+"/namespace", "parent", "a", "max-depth", "0").wantJSON(`{"data":[{"ns":"a"}]}`)
	c.get(at+"/status").want(200, `"avail":`)
	c.get(at+"/status", "verbose", "true").want(200, `"counts":{"ct":{"groups":1,"snapshots":1},"host":{"groups":1,"snapshots":1},"vm":{"groups":1,"snapshots":1},"other":null}`)
	c.get("/status/datastore-usage").want(200, `"gc-status":{"upid":null,"index-file-count":0`)
	c.get("/admin/datastore/none/groups").want(400, "no such datastore 'none'")
}

func TestAnUnfinishedBackupIsListedWithoutASize(t *testing.T) {
	s := newSite(t)
	n := snapshot("", "vm/100", day1)
	s.small("tank", n, "owner@pbs")
	s.ok(os.Remove(filepath.Join(s.path("tank"), n.Path(), "index.json.blob")))
	c := s.start().login("admin@pbs")
	c.get("/admin/datastore/tank/snapshots").wantJSON(`{"data":[{"backup-type":"vm","backup-id":"100","backup-time":1717600000,"files":[{"filename":"vm.conf.blob"}],"owner":"owner@pbs","protected":false}]}`)
	c.get("/admin/datastore/tank/groups").want(200, `"last-backup":0,"backup-count":0,"files":[]`)
}

func TestNotesProtectionAndOwnersAreKept(t *testing.T) {
	s := newSite(t)
	s.small("tank", snapshot("", "vm/100", day1), "owner@pbs")
	s.addUser("owner@pbs")
	s.addToken("owner@pbs!nas")
	s.grant("/datastore/tank", "owner@pbs", "DatastoreBackup")
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank"

	// The Rust client sends notes in the query of PUT, the Perl one as a form.
	c.send("PUT", "/api2/json"+at+"/notes?"+values(with(snap, "notes", "ä <b>\nzwei")), "application/x-www-form-urlencoded", "").want(200, `{"data":null}`)
	c.get(at+"/notes", snap...).want(200, `{"data":"ä <b>\nzwei"}`)
	c.get(at+"/snapshots").want(200, `"comment":"ä <b>"`)
	c.put(at+"/notes", with(snap, "notes", strings.Repeat("x", 16<<10))...).want(200, "null")
	c.put(at+"/notes", with(snap, "notes", strings.Repeat("x", 16<<10+1))...).want(400, "16385 bytes")
	c.put(at+"/group-notes", with(group, "notes", "the group")...).want(200, "null")
	c.get(at+"/group-notes", group...).want(200, `{"data":"the group"}`)
	c.get(at+"/groups").want(200, `"comment":"the group"`)

	c.get(at+"/protected", snap...).want(200, `{"data":false}`)
	c.put(at+"/protected", with(snap, "protected", "1")...).want(200, "null")
	c.get(at+"/protected", snap...).want(200, `{"data":true}`)
	c.del(at+"/snapshots", snap...).want(400, "protected")
	c.del(at+"/groups", group...).want(400, "group only partially deleted due to protected snapshots")
	c.del(at+"/groups", with(group, "error-on-protected", "false")...).want(200, `{"data":{"removed-groups":0,"protected-snapshots":1,"removed-snapshots":0}}`)
	c.put(at+"/protected", with(snap, "protected", "off")...).want(200, "null")

	owner := s.login("owner@pbs")
	owner.post(at+"/change-owner", with(group, "new-owner", "owner@pbs!nas")...).want(200, "null")
	owner.post(at+"/change-owner", with(group, "new-owner", "admin@pbs")...).want(401, "does not have permission")
	c.post(at+"/change-owner", with(group, "new-owner", "ghost@pbs")...).want(400, "does not exist")
	c.send("POST", "/api2/json"+at+"/change-owner", "application/json", `{"backup-type":"vm","backup-id":"100","new-owner":"admin@pbs"}`).want(200, "null")
	c.get(at+"/groups").want(200, `"owner":"admin@pbs"`)

	c.del(at+"/snapshots", snap...).want(200, "null")
	c.get(at + "/groups").wantJSON(`{"data":[]}`)
	c.del(at+"/snapshots", snap...).want(400, "not found")
}

func TestNamespacesAreMadeAndRemoved(t *testing.T) {
	s := newSite(t)
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank/namespace"
	c.post(at, "name", "a", "parent", "").wantJSON(`{"data":"a"}`)
	c.post(at, "name", "b", "parent", "a").wantJSON(`{"data":"a/b"}`)
	c.post(at, "name", "b", "parent", "a").want(400, "exists")
	c.post(at, "name", "a/b").want(400, "parameter verification failed")
	s.small("tank", snapshot("a/b", "vm/100", day1), "admin@pbs")
	c.del(at, "ns", "a").want(400, "backup groups")
	c.del(at, "ns", "a", "delete-groups", "1").wantJSON(`{"data":{"removed-groups":1,"protected-snapshots":0,"removed-snapshots":1}}`)
	c.get(at).wantJSON(`{"data":[{"ns":""}]}`)
	c.del(at, "ns", "").want(400, "root")
}

func TestPruneRemovesWhatItSays(t *testing.T) {
	s := newSite(t)
	for i := range int64(4) {
		s.small("tank", snapshot("", "vm/100", day1+i*86400), "admin@pbs")
	}
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank"
	list := func(keep ...bool) string {
		var parts []string
		for i, k := range keep {
			parts = append(parts, fmt.Sprintf(`{"backup-type":"vm","backup-id":"100","backup-time":%d,"keep":%v,"protected":false}`, day1+i*86400, k))
		}
		return `{"data":[` + strings.Join(parts, ",") + `]}`
	}
	c.post(at+"/prune", with(group, "keep-last", "2", "dry-run", "true")...).wantJSON(list(false, false, true, true))
	c.post(at+"/prune", group...).wantJSON(list(true, true, true, true))
	c.post(at+"/prune", with(group, "keep-last", "0")...).want(400, "keep-last")
	c.post(at+"/prune", with(group, "keep-lsat", "1")...).want(400, "keep-lsat")
	c.post(at+"/prune", with(group, "keep-daily", "3")...).wantJSON(list(false, true, true, true))
	if end := c.wait(c.post(at+"/prune", with(group, "keep-last", "2", "use-task", "1")...)); end != "OK" {
		t.Errorf("the task ended with %s", end)
	}
	if end := c.wait(c.post(at+"/prune-datastore", "keep-last", "1")); end != "OK" {
		t.Errorf("the task ended with %s", end)
	}
	c.get(at+"/snapshots").want(200, fmt.Sprintf(`"backup-time":%d`, day1+3*86400))
	c.get(at+"/groups").want(200, `"backup-count":1`)
	c.get("/nodes/localhost/tasks", "typefilter", "prune", "store", "tank").want(200, `"worker_id":"tank::vm/100"`)
}

func TestVerifyAndCollectionTellInTheirLogs(t *testing.T) {
	s := newSite(t)
	s.fill("tank", snapshot("", "vm/100", day1), "admin@pbs", nil, backup.DetectLegacy)
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank"
	r := c.post(at+"/verify", snap...)
	if end := c.wait(r); end != "OK" {
		t.Fatalf("verify ended with %s", end)
	}
	var id string
	r.data(&id)
	if !strings.Contains(id, `:verify_snapshot:tank\x3a-vm-100-66607F00:admin@pbs:`) {
		t.Errorf("the task is %s", id)
	}
	c.get(at+"/snapshots").want(200, `"verification":{"upid":"`+strings.ReplaceAll(id, `\`, `\\`)+`","state":"ok"}`)
	c.get("/nodes/localhost/tasks/"+pathEscape(id)+"/log").want(200, `vm/100/2024-06-05T15:06:40Z: ok`)
	if end := c.wait(c.post(at+"/verify", "ignore-verified", "false")); end != "OK" {
		t.Errorf("verify of all ended with %s", end)
	}
	c.post(at+"/verify", "backup-type", "vm").want(400, "do not specify a backup group or snapshot")

	// A damaged chunk.
	chunks, err := filepath.Glob(filepath.Join(s.path("tank"), ".chunks/*/*"))
	s.ok(err)
	s.ok(os.WriteFile(chunks[0], []byte("damaged"), 0o644))
	if end := c.wait(c.post(at+"/verify", "ignore-verified", "0")); !strings.HasPrefix(end, "verification failed for 1 snapshots") {
		t.Errorf("verify of damage ended with %s", end)
	}
	c.get(at+"/snapshots").want(200, `"state":"failed"`)

	c.get(at+"/gc").want(200, `{"data":{"store":"tank","upid":null`)
	r = c.post(at + "/gc")
	if end := c.wait(r); end != "WARNINGS: 1" { // the chunk that was set aside
		t.Errorf("the collection ended with %s", end)
	}
	r.data(&id)
	c.get(at+"/gc").want(200, `"last-run-state":"WARNINGS: 1"`)
	c.get("/nodes/localhost/tasks/"+pathEscape(id)+"/log", "limit", "0").want(200, "Deduplication factor")
}

func TestDownloadsAreTheFiles(t *testing.T) {
	s := newSite(t)
	n := snapshot("", "vm/100", day1)
	s.fill("tank", n, "admin@pbs", nil, backup.DetectLegacy)
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank"
	for _, name := range []string{"vm.conf.blob", "disk.img.fidx", "root.pxar.didx", "index.json.blob"} {
		want, err := os.ReadFile(filepath.Join(s.path("tank"), n.Path(), name))
		s.ok(err)
		got := c.get(at+"/download", with(snap, "file-name", name)...)
		if got.Status != 200 || got.Body != string(want) || got.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d, %d bytes, want %d", name, got.Status, len(got.Body), len(want))
		}
	}
	if got := c.get(at+"/download-decoded", with(snap, "file-name", "disk.img.fidx")...); got.Body != string(picturePlain()) {
		t.Errorf("the image has %d bytes, want %d", len(got.Body), len(picturePlain()))
	}
	c.get(at+"/download-decoded", with(snap, "file-name", "vm.conf.blob")...).want(200, "cores: 2\n")
	if got := c.get(at+"/download-decoded", with(snap, "file-name", "root.pxar.didx")...); !strings.Contains(got.Body, "127.0.0.1 localhost") {
		t.Errorf("the archive has %d bytes", len(got.Body))
	}
	for _, bad := range []string{"../owner", "..", "/etc/passwd", "none", "owner", ".protected", "a/b.blob", "%2e%2e/x.blob", "x.blob\x00"} {
		c.get(at+"/download", with(snap, "file-name", bad)...).want(400, "parameter verification failed")
	}
	c.get(at+"/download", with(snap, "file-name", "none.blob")...).want(400, "not found")
}

func TestEncryptedFilesAreDownloadedButNotDecoded(t *testing.T) {
	s := newSite(t)
	key, err := chunkcrypt.New([32]byte{1, 2, 3})
	s.ok(err)
	s.fill("tank", snapshot("", "vm/100", day1), "admin@pbs", key, backup.DetectMetadata)
	c := s.start().login("admin@pbs")
	const at = "/admin/datastore/tank"
	for _, name := range []string{"vm.conf.blob", "disk.img.fidx", "root.mpxar.didx"} {
		c.get(at+"/download", with(snap, "file-name", name)...).want(200, "")
		c.get(at+"/download-decoded", with(snap, "file-name", name)...).want(400, "is encrypted")
	}
	c.get(at+"/catalog", with(snap, "filepath", b64("/root.mpxar.didx"))...).want(400, "is encrypted")
	c.get(at+"/pxar-file-download", with(snap, "filepath", b64("/root.mpxar.didx/etc/hosts"))...).want(400, "is encrypted")
	c.get(at+"/snapshots").want(200, `"fingerprint":"`)
	c.get(at+"/files", snap...).want(200, `{"filename":"index.json.blob","crypt-mode":"sign-only"`)
	if end := c.wait(c.post(at+"/verify", snap...)); end != "OK" {
		t.Errorf("verify without the key ended with %s", end)
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestArchivesAreBrowsedWithAndWithoutACatalog(t *testing.T) {
	for mode, name := range map[backup.Detection]string{backup.DetectLegacy: "root.pxar.didx", backup.DetectMetadata: "root.mpxar.didx"} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSite(t)
			s.fill("tank", snapshot("", "vm/100", day1), "admin@pbs", nil, mode)
			c := s.start().login("admin@pbs")
			const at = "/admin/datastore/tank"
			list := func(params ...string) (names []string) {
				var entries []struct{ Filepath, Text, Type string }
				c.get(at+"/catalog", with(snap, params...)...).data(&entries)
				for _, e := range entries {
					path, err := base64.StdEncoding.DecodeString(e.Filepath)
					s.ok(err)
					names = append(names, e.Type+" "+string(path))
				}
				slices.Sort(names)
				return names
			}
			if got := list("filepath", "root"); !slices.Equal(got, []string{"v /" + name}) {
				t.Errorf("the root is %q", got)
			}
			top := []string{"d /" + name + "/etc", "f /" + name + "/a b.txt"}
			if got := list("filepath", b64("/"+name)); !slices.Contains(got, top[0]) || !slices.Contains(got, top[1]) || len(got) != 4 {
				t.Errorf("the archive is %q", got)
			}
			if got := list("filepath", b64("/etc"), "archive-name", name); len(got) != 2 || !strings.HasSuffix(got[0], " /etc/hosts") {
				t.Errorf("etc is %q", got)
			}
			c.get(at+"/catalog", with(snap, "filepath", b64("/"+name+"/none"))...).want(400, "")
			c.get(at+"/catalog", with(snap, "filepath", "?")...).want(400, "base64")

			get := func(path string, more ...string) reply {
				return c.get(at+"/pxar-file-download", with(snap, append([]string{"filepath", b64("/" + name + path)}, more...)...)...)
			}
			get("/etc/hosts").want(200, "127.0.0.1 localhost\n")
			get("/link").want(200, "hello\n")
			get("/etc/motd").want(200, "hello\n")
			get("/etc/../../../etc/motd").want(400, "archive name") // no way out
			get("/pointer").want(400, "neither a file nor a directory")
			get("/none").want(400, "")

			z := get("/etc")
			r, err := zip.NewReader(strings.NewReader(z.Body), int64(len(z.Body)))
			s.ok(err)
			var inside []string
			for _, f := range r.File {
				inside = append(inside, f.Name)
			}
			slices.Sort(inside)
			if d := cmp.Diff([]string{"hosts", "motd"}, inside); d != "" {
				t.Errorf("the zip, want -, got +:\n%s", d)
			}
			wantTar(t, get("", "tar", "1").Body)
		})
	}
}

// wantTar compares what GNU tar and zstd see in a compressed tar.
func wantTar(t *testing.T, body string) {
	t.Helper()
	zstd := exec.CommandContext(t.Context(), "zstd", "-dc")
	zstd.Stdin = strings.NewReader(body)
	plain, err := zstd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		t.Skip("zstd is not installed")
	}
	if err != nil {
		t.Fatal(err)
	}
	tar := exec.CommandContext(t.Context(), "tar", "-t")
	tar.Stdin = bytes.NewReader(plain)
	list, err := tar.Output()
	if err != nil || !strings.Contains(string(list), "./etc/hosts\n") || !strings.Contains(string(list), "./pointer\n") {
		t.Errorf("tar lists %q, %v", list, err)
	}
}

func TestALogIsUploadedOnceByTheOwner(t *testing.T) {
	s := newSite(t)
	s.small("tank", snapshot("", "vm/100", day1), "owner@pbs!nas")
	s.addUser("owner@pbs")
	key := s.addToken("owner@pbs!nas")
	s.grant("/datastore/tank", "owner@pbs", "DatastoreBackup")
	s.grant("/datastore/tank", "owner@pbs!nas", "DatastoreBackup")
	s.start()
	c := s.with("owner@pbs!nas", key)
	c.token = strings.Replace(c.token, "PBSAPIToken ", "PBSAPIToken=", 1)
	enc, err := blob.NewEncoder(nil, nil, false)
	s.ok(err)
	defer enc.Close()
	raw, err := enc.Append(nil, []byte("the log"))
	s.ok(err)
	up := func(c *client, body string) reply {
		return c.send("POST", "/api2/json/admin/datastore/tank/upload-backup-log?"+values(snap), "application/octet-stream", body)
	}
	spoilt := bytes.Clone(raw)
	spoilt[len(spoilt)-1] ^= 1
	up(c, string(spoilt)).want(400, "")
	up(c, "").want(400, "")
	up(c, strings.Repeat("x", 17<<20)).want(400, "too large")
	up(s.login("admin@pbs"), string(raw)).want(400, "owner check failed")
	up(c, string(raw)).want(200, `{"data":null}`)
	up(c, string(raw)).want(400, "already contains a log")
	admin := s.login("admin@pbs")
	admin.get("/admin/datastore/tank/files", snap...).want(200, `{"filename":"client.log.blob"}`)
	admin.get("/admin/datastore/tank/download-decoded", with(snap, "file-name", "client.log.blob")...).want(200, "the log")
}

func TestErrorsInTheFormOfTheWebInterface(t *testing.T) {
	s := newSite(t).start()
	c := s.login("admin@pbs")
	got := c.send("GET", "/api2/extjs/admin/datastore/tank/groups?ns=none", "", "")
	var out struct {
		Success bool
		Status  int
		Message string
	}
	if err := json.Unmarshal([]byte(got.Body), &out); err != nil || got.Status != 200 || out.Success || out.Status != 400 || out.Message == "" {
		t.Errorf("%d %s, %v", got.Status, got.Body, err)
	}
	c.send("GET", "/api2/extjs/admin/datastore/tank/groups", "", "").want(200, `{"data":[],"status":200,"success":true}`)
	c.send("GET", "/api2/html/version", "", "").want(400, "unsupported output format")
}
