package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/backup"
	"github.com/holdfast-backup/holdfast/internal/extract"
	"github.com/holdfast-backup/holdfast/internal/filearchive"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/chunkcrypt"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/archive"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/secret"
)

// remote opens the datastore over the network.
func (s *site) remote(who, key string) *remote.Repository {
	s.t.Helper()
	host, port, err := net.SplitHostPort(s.addr)
	s.ok(err)
	n, err := strconv.ParseUint(port, 10, 16)
	s.ok(err)
	fp, err := address.ParseFingerprint(s.server.Fingerprint())
	s.ok(err)
	r, err := remote.Open(address.Address{Auth: auth(who), Host: host, Port: uint16(n), Store: "tank"}, remote.Options{
		Fingerprint: fp, Password: func(context.Context) (secret.Secret, error) { return secret.New([]byte(key)), nil },
	})
	s.ok(err)
	s.t.Cleanup(func() { _ = r.Close() })
	return r
}

func job(n names.Snapshot, img []byte, tree string, key *chunkcrypt.Key) backup.Job {
	return backup.Job{
		Snapshot: n,
		Sources: []backup.Source{
			{Name: "disk.img.fidx", Image: picture{bytes.NewReader(img)}},
			{Name: "root.pxar.didx", Tree: &backup.Tree{Path: tree}},
			{Name: "vm.conf.blob", Data: []byte("cores: 2\n")},
		},
		Options: backup.Options{Key: key, CryptMode: cryptMode(key), Workers: 2},
	}
}

// wantContent reads a snapshot back and compares it with what was backed up.
func wantContent(t *testing.T, r repo.Repository, n names.Snapshot, img []byte, tree string, key *chunkcrypt.Key) {
	t.Helper()
	snap, err := r.Open(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	x, err := archive.Open(t.Context(), snap, "disk.img.fidx", key, archive.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	got, err := io.ReadAll(io.NewSectionReader(x, 0, x.Size()))
	if err != nil || !bytes.Equal(got, img) {
		t.Errorf("the image has %d bytes, want %d; %v", len(got), len(img), err)
	}
	parts, err := filearchive.Find(snap.Manifest(), "root.pxar")
	if err != nil {
		t.Fatal(err)
	}
	src, err := filearchive.OpenStream(t.Context(), snap, parts, key, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	res, err := extract.Verify(t.Context(), src, tree, extract.VerifyOptions{})
	if err != nil || res.Missing+res.Content != 0 || res.Same.Files < 3 {
		t.Errorf("the directory differs: %+v, %v", res, err)
	}
}

func TestBackupsGoToTheServerAndComeBack(t *testing.T) {
	key, err := chunkcrypt.New([32]byte{7})
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]*chunkcrypt.Key{"plain": nil, "encrypted": key} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.setStore("tank", "verify-new", "true")
			s.start()
			r := s.remote("admin@pbs", password)
			c := s.login("admin@pbs")
			ctx := t.Context()
			img, tree := picturePlain(), tree(t)
			first, second := snapshot("", "vm/100", day1), snapshot("", "vm/100", day1+3600)
			if _, err := backup.Run(ctx, r, job(first, img, tree, k)); err != nil {
				t.Fatal(err)
			}
			wantContent(t, r, first, img, tree, k)

			// The next one sends what is new and no more.
			img = slices.Clone(img)
			img[5<<20] ^= 1
			s.ok(os.WriteFile(filepath.Join(tree, "new"), []byte("new"), 0o644))
			rep, err := backup.Run(ctx, r, job(second, img, tree, k))
			if err != nil {
				t.Fatal(err)
			}
			if n := rep.Archives[0].Stats.Stored.Chunks; n != 1 {
				t.Errorf("%d chunks of the image were sent, want the one that changed", n)
			}
			wantContent(t, r, first, picturePlain(), tree, k)
			wantContent(t, r, second, img, tree, k)

			snaps, err := r.Snapshots(ctx, names.Root, nil)
			if err != nil || len(snaps) != 2 || snaps[0].Owner != "admin@pbs" {
				t.Errorf("the snapshots are %+v, %v", snaps, err)
			}
			s.waitFor(c, `"worker_type":"verify","worker_id":"tank:vm/100/`+fmt.Sprintf("%08X", second.Time)+`"`)
			report, err := r.Verify(ctx, repo.VerifyOptions{})
			if err != nil {
				t.Errorf("verify: %+v, %v", report, err)
			}
			if _, err := r.Prune(ctx, repo.PruneOptions{Group: &second.Group, Keep: retention.Options{Last: 1}}); err != nil {
				t.Fatal(err)
			}
			if _, err := r.GC(ctx, repo.GCOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Open(ctx, first); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("the pruned snapshot: %v", err)
			}
			wantContent(t, r, second, img, tree, k)
			for _, want := range []string{`"worker_type":"backup","worker_id":"tank:vm/100"`, `"worker_type":"reader","worker_id":"tank:vm/100/66607F00"`, `"worker_type":"prune"`, `"worker_type":"garbage_collection"`} {
				c.get("/nodes/localhost/tasks", "limit", "0").want(200, want)
			}
			if strings.Contains(s.log.String(), "level=ERROR") {
				t.Error("the log has errors")
			}
		})
	}
}

// waitFor waits until the list of tasks has a text.
func (s *site) waitFor(c *client, text string) {
	s.t.Helper()
	for range 500 {
		if strings.Contains(c.get("/nodes/localhost/tasks", "limit", "0").Body, text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.t.Errorf("there is no task %s: %s", text, c.get("/nodes/localhost/tasks", "limit", "0").Body)
}

func TestUsersKeepTheirGroupsFromOneAnother(t *testing.T) {
	s := newSite(t)
	for _, u := range []string{"ann@pbs", "bob@pbs"} {
		s.addUser(u)
		s.grant("/datastore/tank", u, "DatastoreBackup")
	}
	nas := s.addToken("ann@pbs!nas")
	s.grant("/datastore/tank", "ann@pbs!nas", "DatastoreBackup")
	s.start()
	ann, bob, token := s.remote("ann@pbs", password), s.remote("bob@pbs", password), s.remote("ann@pbs!nas", nas)
	ctx, img, tree := t.Context(), picturePlain(), tree(t)
	first := snapshot("", "vm/100", day1)
	run := func(r repo.Repository, n names.Snapshot) error {
		_, err := backup.Run(ctx, r, job(n, img, tree, nil))
		return err
	}
	s.ok(run(token, first))
	for who, r := range map[string]repo.Repository{"bob": bob} {
		if err := run(r, snapshot("", "vm/100", day1+60)); !errors.Is(err, repo.ErrOwner) {
			t.Errorf("%s backs up into the group: %v", who, err)
		}
		if _, err := r.Open(ctx, first); err == nil {
			t.Errorf("%s reads it", who)
		}
		if err := r.Forget(ctx, first); err == nil {
			t.Errorf("%s removes it", who)
		}
		if list, err := r.Snapshots(ctx, names.Root, nil); err != nil || len(list) != 0 {
			t.Errorf("%s sees %v, %v", who, list, err)
		}
	}
	// The groups of a token are its user's; not the other way round.
	s.ok(run(ann, snapshot("", "vm/100", day1+60)))
	wantContent(t, ann, first, img, tree, nil)
	s.ok(run(ann, snapshot("", "vm/200", day1)))
	if err := run(token, snapshot("", "vm/200", day1+60)); !errors.Is(err, repo.ErrOwner) {
		t.Errorf("a token backs up into its user's group: %v", err)
	}
	if err := run(bob, snapshot("", "vm/300", day1)); err != nil {
		t.Errorf("bob's own group: %v", err)
	}
}

func TestAWriteOnlyTokenBacksUpAndReadsNothing(t *testing.T) {
	s := newSite(t)
	s.addUser("writer@pbs")
	key := s.addToken("writer@pbs!nas")
	s.grant("/datastore/tank", "writer@pbs", access.DatastoreWriteOnly)
	s.grant("/datastore/tank", "writer@pbs!nas", access.DatastoreWriteOnly)
	s.start()
	r := s.remote("writer@pbs!nas", key)
	ctx, img, tree := t.Context(), picturePlain(), tree(t)
	for i := range int64(2) {
		j := job(snapshot("", "vm/100", day1+i*60), img, tree, nil)
		j.Sources[1].Tree.Detection = backup.DetectLegacy // metadata mode reads the last backup
		rep, err := backup.Run(ctx, r, j)
		if err != nil {
			t.Fatal(err)
		}
		if n := rep.Archives[0].Stats.Stored.Chunks; i == 1 && n != 0 {
			t.Errorf("the second backup sent %d chunks of an image that did not change", n)
		}
	}
	if _, err := r.Open(ctx, snapshot("", "vm/100", day1)); err == nil {
		t.Error("it reads its backups")
	}
	ses, err := r.Begin(ctx, repo.Begin{Snapshot: snapshot("", "vm/100", day1+120), Owner: "writer@pbs!nas"})
	if err != nil {
		t.Fatal(err)
	}
	defer ses.Abort()
	if b, err := ses.Previous().Blob("vm.conf.blob"); err == nil {
		t.Errorf("it reads a file of the backup before: %q", b)
	}
}

func TestABackupThatTheServersEndCutsOffLeavesNothing(t *testing.T) {
	s := newSite(t)
	s.opt.Grace = time.Millisecond
	s.start()
	r := s.remote("admin@pbs", password)
	ctx, img, tree := t.Context(), picturePlain(), tree(t)
	s.ok2(backup.Run(ctx, r, job(snapshot("", "vm/100", day1), img, tree, nil)))
	ses, err := r.Begin(ctx, repo.Begin{Snapshot: snapshot("", "vm/100", day1+60), Owner: "admin@pbs"})
	s.ok(err)
	w, err := ses.CreateDynamic("root.pxar.didx")
	s.ok(err)
	_ = w
	s.ok(s.stop())
	if _, err := ses.CreateDynamic("more.pxar.didx"); err == nil {
		t.Error("the session goes on without a server")
	}
	_ = ses.Abort()
	if _, err := os.Stat(filepath.Join(s.path("tank"), "vm/100/2024-06-05T15:07:40Z")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished snapshot is there: %v", err)
	}
	s.start()
	r = s.remote("admin@pbs", password)
	s.ok2(backup.Run(ctx, r, job(snapshot("", "vm/100", day1+60), img, tree, nil)))
	wantContent(t, r, snapshot("", "vm/100", day1+60), img, tree, nil)
	s.login("admin@pbs").get("/nodes/localhost/tasks", "typefilter", "backup", "errors", "1").want(200, "the server was stopped")
}

func TestTheEndWaitsForBackups(t *testing.T) {
	s := newSite(t).start()
	r := s.remote("admin@pbs", password)
	ctx, img, tree := t.Context(), picturePlain(), tree(t)
	stopped := make(chan error, 1)
	j := job(snapshot("", "vm/100", day1), img, tree, nil)
	var once bool
	j.Started = func(names.Archive, int64) {
		if !once {
			once = true
			go func() { stopped <- s.stop() }()
			for s.dialPlain() { // until it takes no more connections
				time.Sleep(time.Millisecond)
			}
		}
	}
	if _, err := backup.Run(ctx, r, j); err != nil {
		t.Fatalf("a backup that runs when the server is stopped: %v", err)
	}
	s.ok(<-stopped)
	s.start()
	wantContent(t, s.remote("admin@pbs", password), snapshot("", "vm/100", day1), img, tree, nil)
}

// dialPlain reports whether somebody listens.
func (s *site) dialPlain() bool {
	c, err := net.Dial("tcp", s.addr)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func TestSessionsOfOneUserAreLimited(t *testing.T) {
	s := newSite(t)
	s.opt.Limits.Sessions = 2
	s.start()
	r := s.remote("admin@pbs", password)
	begin := func(id int64) (repo.Session, error) {
		return r.Begin(t.Context(), repo.Begin{Snapshot: snapshot("", fmt.Sprintf("vm/%d", id), day1), Owner: "admin@pbs"})
	}
	var open []repo.Session
	for i := range int64(2) {
		ses, err := begin(100 + i)
		s.ok(err)
		open = append(open, ses)
	}
	if _, err := begin(200); err == nil || !strings.Contains(err.Error(), "has 2 sessions already") {
		t.Errorf("a third one: %v", err)
	}
	for _, ses := range open {
		s.ok(ses.Abort())
	}
	for range 500 {
		if ses, err := begin(300); err == nil {
			s.ok(ses.Abort())
			return
		}
		time.Sleep(10 * time.Millisecond) // until the server has seen that they ended
	}
	t.Error("there is no room after all sessions ended")
}

func TestATaskOfABackupIsStoppedByItsUPID(t *testing.T) {
	s := newSite(t).start()
	r := s.remote("admin@pbs", password)
	c := s.login("admin@pbs")
	ses, err := r.Begin(t.Context(), repo.Begin{Snapshot: snapshot("", "vm/100", day1), Owner: "admin@pbs"})
	s.ok(err)
	defer ses.Abort()
	var list []struct{ UPID string }
	c.get("/nodes/localhost/tasks", "running", "1").data(&list)
	if len(list) != 1 {
		t.Fatalf("the tasks are %v", list)
	}
	c.del("/nodes/localhost/tasks/"+pathEscape(list[0].UPID)).want(200, "null")
	s.waitFor(c, "abort requested")
	if _, err := ses.CreateDynamic("root.pxar.didx"); err == nil {
		t.Error("the session goes on")
	}
	if _, err := os.Stat(filepath.Join(s.path("tank"), "vm/100/2024-06-05T15:06:40Z")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the snapshot is there: %v", err)
	}
}

func (s *site) ok2(_ backup.Report, err error) {
	s.t.Helper()
	s.ok(err)
}
