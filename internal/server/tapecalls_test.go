package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/tape/listing"
)

// library makes a virtual library with some media and a server that knows it: the
// changer lib0 with the drive drive0.
func library(t *testing.T, s *site, media ...string) {
	t.Helper()
	at := filepath.Join(s.dir, "library")
	s.ok(os.Mkdir(at, 0o700))
	s.ok(vtl.Create(at, vtl.Default(8, 1, 6)))
	lib, err := vtl.Open(at, vtl.Options{})
	s.ok(err)
	for _, m := range media {
		s.ok(lib.AddCartridge(vtl.Cartridge{Barcode: m, Capacity: 64 << 20}))
	}
	s.ok(lib.Close())
	a := s.login("admin@pbs")
	a.post("/config/changer", "name", "lib0", "path", filepath.Join(at, "changer")).want(200, "null")
	a.post("/config/drive", "name", "drive0", "path", filepath.Join(at, "drive0"), "changer", "lib0").want(200, "null")
}

func TestADatastoreGoesToTapeAndComesBack(t *testing.T) {
	s := newSite(t)
	s.opt.Silent = true
	s.addStore("copy")
	s.fill("tank", snapshot("", "vm/100", day1), "admin@pbs", nil, "")
	s.fill("tank", snapshot("prod", "vm/100", day1+3600), "admin@pbs", nil, "")
	s.start()
	library(t, s, "TAPE01L8", "TAPE02L8", "CLN001L8")
	a := s.login("admin@pbs")

	var key string
	a.post("/config/tape-encryption-keys", "password", password, "hint", "the usual").data(&key)
	a.post("/config/media-pool", "name", "daily", "encrypt", key).want(200, "null")
	ends := func(r reply, want string) {
		t.Helper()
		if got := a.wait(r); got != want {
			t.Fatalf("%s ended with %q, want %q", r.name, got, want)
		}
	}
	ends(a.post("/tape/drive/drive0/barcode-label-media", "pool", "daily"), "OK")
	var labels []struct{ LabelText, UUID string }
	a.get("/tape/drive/drive0/inventory").data(&labels)
	if len(labels) != 2 || labels[0].UUID == "" {
		t.Errorf("labels: %+v", labels)
	}

	a.post("/config/tape-backup-job", "id", "offsite", "store", "tank", "pool", "daily", "drive", "drive0").want(200, "null")
	ends(a.post("/tape/backup/offsite"), "OK")
	var runs []map[string]any
	a.get("/tape/backup").data(&runs)
	if len(runs) != 1 || runs[0]["last-run-state"] != "OK" || runs[0]["next-media-label"] != "TAPE01L8" {
		t.Errorf("jobs: %v", runs)
	}

	var content []listing.Content
	a.get("/tape/media/content").data(&content)
	var found []string
	for _, c := range content {
		found = append(found, c.Store+":"+c.Snapshot)
	}
	if want := []string{"tank:ns/prod/vm/100/2024-06-05T16:06:40Z", "tank:vm/100/2024-06-05T15:06:40Z"}; !slices.Equal(found, want) {
		t.Fatalf("on tape: %q, want %q", found, want)
	}
	var media []listing.Medium
	a.get("/tape/media/list").data(&media)
	if len(media) != 2 || media[0].Status != "writable" || !media[0].Catalog || media[0].Location != "online-lib0" || media[0].SetUUID != content[0].SetUUID {
		t.Errorf("media: %+v", media)
	}
	var sets []listing.Set
	a.get("/tape/media/media-sets").data(&sets)
	if len(sets) != 1 || sets[0].UUID != content[0].SetUUID || sets[0].Pool != "daily" {
		t.Errorf("sets: %+v", sets)
	}

	ends(a.post("/tape/restore", "media-set", sets[0].UUID, "store", "copy", "drive", "drive0"), "OK")
	if got, want := s.snapshots("copy"), s.snapshots("tank"); !slices.Equal(got, want) {
		t.Errorf("restored: %q, want %q", got, want)
	}
	ends(a.post("/admin/datastore/copy/verify", "ignore-verified", "0"), "OK")
}

func TestADriveTellsOfItselfAndItsMedium(t *testing.T) {
	s := newSite(t).start()
	library(t, s, "TAPE01L8")
	a := s.login("admin@pbs")
	if got := a.wait(a.post("/tape/drive/drive0/load-media", "label-text", "TAPE01L8")); got != "OK" {
		t.Fatal(got)
	}
	var status map[string]any
	a.get("/tape/drive/drive0/status").data(&status)
	if status["density"] != "LTO8" || status["vendor"] == "" {
		t.Errorf("status: %v", status)
	}
	var memory []struct{ Name, Value string }
	a.get("/tape/drive/drive0/cartridge-memory").data(&memory)
	if len(memory) < 10 {
		t.Errorf("memory: %v", memory)
	}
	a.get("/tape/drive/drive0/volume-statistics").want(200, "volume-mounts")
	a.get("/tape/drive", "query-activity", "1").want(200, `"drive0"`)
	var places []listing.Element
	a.get("/tape/changer/lib0/status", "cache", "0").data(&places)
	drive := places[0]
	if drive.Kind != "drive" || drive.Label == nil || *drive.Label != "TAPE01L8" || drive.From == nil || *drive.From != 1 {
		t.Errorf("places: %+v", places)
	}
	a.get("/tape/drive/drive0/read-label").want(400, "empty")
	if got := a.wait(a.post("/tape/drive/drive0/unload", "target-slot", "3")); got != "OK" {
		t.Fatal(got)
	}
	a.get("/tape/changer/lib0/status").data(&places) // by now it is asked anew
	if l := places[3].Label; l == nil || *l != "TAPE01L8" {
		t.Errorf("places: %+v", places)
	}
	a.get("/tape/drive/none/status").want(400, "none")
	a.get("/tape/scan-drives").want(200, "[")
}

// What goes onto tape is in nobody else's reach than the datastore's.
func TestTapesNeedTheRightsOfTheirDatastore(t *testing.T) {
	s := newSite(t)
	s.addUser("tapes@pbs")
	s.grant("/tape", "tapes@pbs", "TapeAdmin")
	s.small("tank", snapshot("", "vm/100", day1), "admin@pbs")
	s.start()
	library(t, s, "TAPE01L8")
	a, u := s.login("admin@pbs"), s.login("tapes@pbs")
	a.post("/config/media-pool", "name", "daily").want(200, "null")
	if got := u.wait(u.post("/tape/drive/drive0/barcode-label-media", "pool", "daily")); got != "OK" {
		t.Fatal(got)
	}
	u.post("/tape/backup", "store", "tank", "pool", "daily", "drive", "drive0").want(403, "Datastore.Read")
	if got := a.wait(a.post("/tape/backup", "store", "tank", "pool", "daily", "drive", "drive0", "eject-media", "1")); got != "OK" {
		t.Fatal(got)
	}
	var sets []listing.Set
	u.get("/tape/media/media-sets").data(&sets)
	u.post("/tape/restore", "media-set", sets[0].UUID, "store", "tank", "drive", "drive0").want(403, "Datastore.Backup")
	u.get("/tape/media/destroy", "label-text", "TAPE01L8").want(400, "force")
	u.post("/tape/media/move", "label-text", "TAPE01L8", "vault-name", "safe").want(200, "null")
	var media []listing.Medium
	u.get("/tape/media/list", "update-status", "0").data(&media)
	if media[0].Location != "vault-safe" {
		t.Errorf("media: %+v", media)
	}
	u.post("/tape/media/list/"+media[0].UUID+"/status", "status", "retired").want(200, "null")
	u.get("/tape/media/list/"+media[0].UUID+"/status").want(200, `"retired"`)
}

// Nobody can be told of this job. The server stops all the same.
func TestATapeJobIsRunAsAJob(t *testing.T) {
	s := newSite(t)
	s.opt.Grace, s.opt.Sendmail = 100*time.Millisecond, "/none"
	s.small("tank", snapshot("", "vm/100", day1), "admin@pbs")
	s.start()
	library(t, s, "TAPE01L8")
	a := s.login("admin@pbs")
	a.post("/config/media-pool", "name", "daily").want(200, "null")
	if got := a.wait(a.post("/tape/drive/drive0/barcode-label-media", "pool", "daily")); got != "OK" {
		t.Fatal(got)
	}
	s.addJob(jobs.Tape, "nightly", jobs.Values{"store": {"tank"}, "pool": {"daily"}, "drive": {"drive0"}, "schedule": {"daily"}})
	state, text := s.runJob(jobs.Tape, "nightly")
	if state.String() != "OK" || !strings.Contains(text, "snapshots: 1 written") {
		t.Errorf("%s: %s", state, text)
	}
}

// A restore that waits for a medium keeps its drive, though that is empty.
func TestADriveServesOneTaskAtATime(t *testing.T) {
	s := newSite(t)
	s.opt.Silent = true
	s.small("tank", snapshot("", "vm/100", day1), "admin@pbs")
	s.start()
	library(t, s, "TAPE01L8")
	a := s.login("admin@pbs")
	a.post("/config/media-pool", "name", "daily").want(200, "null")
	for _, call := range [][]string{
		{"/tape/drive/drive0/barcode-label-media", "pool", "daily"},
		{"/tape/backup", "store", "tank", "pool", "daily", "drive", "drive0"},
		{"/tape/drive/drive0/unload"},
	} {
		if got := a.wait(a.post(call[0], call[1:]...)); got != "OK" {
			t.Fatalf("%s: %s", call[0], got)
		}
	}
	lib, err := vtl.Open(filepath.Join(s.dir, "library"), vtl.Options{})
	s.ok(err)
	s.ok(errors.Join(lib.Export("TAPE01L8"), lib.Close()))
	var sets []listing.Set
	a.get("/tape/media/media-sets").data(&sets)
	var waiting string
	a.post("/tape/restore", "media-set", sets[0].UUID, "store", "tank", "drive", "drive0").data(&waiting)
	log := "/nodes/localhost/tasks/" + pathEscape(waiting) + "/log"
	for range 500 {
		if strings.Contains(a.get(log).Body, "is wanted in") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	a.get(log).want(200, "is wanted in")
	if got := a.wait(a.post("/tape/drive/drive0/unload")); !strings.Contains(got, "another program uses the device") {
		t.Errorf("a second task ended with %q", got)
	}
	a.del("/nodes/localhost/tasks/"+pathEscape(waiting)).want(200, "null")
}
