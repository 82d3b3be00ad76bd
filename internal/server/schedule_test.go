package server_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/upid"
	"github.com/holdfast-backup/holdfast/internal/proto/items"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/repo/remote"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

// reach goes to other servers.
type reach struct{}

func (reach) options(r jobs.Remote) (address.Address, remote.Options) {
	fp, err := address.ParseFingerprint(r.Fingerprint)
	if err != nil {
		panic(err)
	}
	return address.Address{Auth: r.Auth, Host: r.Host, Port: r.Port}, remote.Options{
		Fingerprint: fp, Password: func(context.Context) (secret.Secret, error) { return r.Password, nil },
	}
}

func (way reach) Open(_ context.Context, r jobs.Remote, store string) (repo.Repository, error) {
	a, o := way.options(r)
	a.Store = store
	return remote.Open(a, o)
}

func (way reach) Stores(ctx context.Context, r jobs.Remote) ([]items.Store, error) {
	a, o := way.options(r)
	return remote.Stores(ctx, a, o)
}

// runJob runs a job of a site and returns its end and its log.
func (s *site) runJob(k jobs.Kind, id string) (tasks.State, string) {
	s.t.Helper()
	j, err := jobs.Find(s.conf, k, id)
	s.ok(err)
	u, err := s.server.RunJob(j)
	s.ok(err)
	end := s.server.Tasks().Wait(u)
	var log strings.Builder
	_, err = s.server.Tasks().Lines(u, 0, 0, func(_ int, text string) error {
		log.WriteString(text + "\n")
		return nil
	})
	s.ok(err)
	return end, log.String()
}

func (s *site) addJob(k jobs.Kind, id string, v jobs.Values) {
	s.t.Helper()
	s.ok(jobs.Add(s.t.Context(), s.conf, k, id, v))
}

// snapshots lists what a datastore of a site has.
func (s *site) snapshots(store string) (list []string) {
	s.t.Helper()
	r, err := dir.Open(s.path(store), dir.Options{})
	s.ok(err)
	defer r.Close()
	spaces, err := r.Namespaces(s.t.Context(), names.Root)
	s.ok(err)
	for _, ns := range append([]names.Namespace{names.Root}, spaces...) {
		infos, err := r.Snapshots(s.t.Context(), ns, nil)
		s.ok(err)
		for _, i := range infos {
			list = append(list, filepath.Join(ns.String(), i.Snapshot.String())+" "+i.Owner)
		}
	}
	return list
}

// An image, a directory and a blob go from one server to another and on to a third
// place, by jobs that pull and push; what comes verifies there.
func TestJobsSynchroniseServers(t *testing.T) {
	far := newSite(t)
	for i := range int64(3) {
		far.fill("tank", snapshot("prod", "vm/100", day1+i*3600), "guest@pbs", nil, "")
	}
	key := far.addToken("admin@pbs!sync")
	far.grant("/datastore/tank", "admin@pbs!sync", "DatastoreAdmin")
	far.start()

	near := newSite(t)
	near.opt.Remotes = reach{}
	near.addStore("copy")
	host, port, err := net.SplitHostPort(far.addr)
	near.ok(err)
	p := secret.New([]byte(key))
	near.ok(jobs.SetRemote(t.Context(), near.conf, "far", "", true, jobs.Values{
		"host": {host}, "port": {port}, "auth-id": {"admin@pbs!sync"}, "fingerprint": {far.server.Fingerprint()},
	}, &p))
	near.addJob(jobs.Sync, "fetch", jobs.Values{"store": {"tank"}, "remote": {"far"}, "remote-store": {"tank"}, "remote-ns": {"prod"}, "ns": {"from/far"}, "transfer-last": {"2"}})
	near.addJob(jobs.Sync, "aside", jobs.Values{"store": {"copy"}, "remote-store": {"tank"}, "owner": {"root@pam"}})
	near.addJob(jobs.Sync, "return", jobs.Values{"store": {"copy"}, "ns": {"from"}, "remote": {"far"}, "remote-store": {"tank"}, "remote-ns": {"back"}, "sync-direction": {"push"}})
	near.addJob(jobs.Verify, "check", jobs.Values{"store": {"copy"}})
	near.start()

	end, log := near.runJob(jobs.Sync, "fetch")
	if end.Kind != tasks.OK {
		t.Fatalf("%+v\n%s", end, log)
	}
	want := []string{"from/far/vm/100/2024-06-05T16:06:40Z root@pam", "from/far/vm/100/2024-06-05T17:06:40Z root@pam"}
	if got := near.snapshots("tank"); !slices.Equal(got, want) {
		t.Errorf("%q\n%s", got, log)
	}
	if end, log := near.runJob(jobs.Sync, "aside"); end.Kind != tasks.OK || !slices.Equal(near.snapshots("copy"), want) {
		t.Errorf("%+v %q\n%s", end, near.snapshots("copy"), log)
	}
	if end, log := near.runJob(jobs.Sync, "return"); end.Kind != tasks.OK {
		t.Fatalf("%+v\n%s", end, log)
	}
	var back []string
	for _, s := range far.snapshots("tank") {
		if strings.HasPrefix(s, "back/") {
			back = append(back, s)
		}
	}
	if len(back) != 2 || back[0] != "back/far/vm/100/2024-06-05T16:06:40Z admin@pbs!sync" {
		t.Errorf("%q", back)
	}
	if end, log := near.runJob(jobs.Verify, "check"); end.Kind != tasks.OK || strings.Count(log, ": ok") != 2 {
		t.Errorf("%+v\n%s", end, log)
	}
	// Again: nothing is new, nothing is copied.
	for _, id := range []string{"fetch", "aside", "return"} {
		if end, log := near.runJob(jobs.Sync, id); end.Kind != tasks.OK || !strings.Contains(log, "snapshots: 0 copied") {
			t.Errorf("%s: %+v\n%s", id, end, log)
		}
	}
	near.ok(far.stop())
	if end, log := near.runJob(jobs.Sync, "fetch"); end.Kind != tasks.Failed {
		t.Errorf("%+v\n%s", end, log)
	}
}

// A server that starts does what was missed, and says so to who listens.
func TestAServerRunsItsJobsWhenTheyAreDue(t *testing.T) {
	s := newSite(t)
	for i := range int64(3) {
		s.small("tank", snapshot("", "vm/100", day1+i*3600), "admin@pbs")
	}
	s.addJob(jobs.Prune, "one", jobs.Values{"store": {"tank"}, "keep-last": {"1"}, "schedule": {"daily"}})
	s.setStore("tank", "gc-schedule", "daily")
	states, err := jobs.OpenStates(filepath.Join(s.conf.Path(), "state", "jobstates"))
	s.ok(err)
	for _, key := range []string{"prunejob-one", "garbage_collection-tank"} {
		s.ok(states.Save(key, jobs.State{Created: time.Now().Add(-25 * time.Hour).Unix()}))
	}
	ended := make(chan string, 8)
	s.opt.JobEnded = func(j jobs.Job, _ upid.UPID, end tasks.State) { ended <- fmt.Sprint(j.Key(), " ", end) }
	s.start()
	got := []string{<-ended, <-ended}
	slices.Sort(got)
	if !slices.Equal(got, []string{"garbage_collection-tank OK", "prunejob-one OK"}) {
		t.Errorf("%q", got)
	}
	if left := s.snapshots("tank"); len(left) != 1 {
		t.Errorf("%q", left)
	}
	text, err := os.ReadFile(filepath.Join(s.conf.Path(), "state", "jobstates", "prunejob-one.json"))
	if err != nil || !strings.Contains(string(text), `"state":{"OK":`) {
		t.Errorf("%s, %v", text, err)
	}
}

// People hear of how jobs ended, as the configuration says.
func TestPeopleHearOfJobs(t *testing.T) {
	heard := make(chan string, 8)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		heard <- string(b)
	}))
	defer hook.Close()
	s := newSite(t)
	s.small("tank", snapshot("", "vm/100", day1), "admin@pbs")
	s.addJob(jobs.Verify, "weekly", jobs.Values{"store": {"tank"}, "ignore-verified": {"false"}, "comment": {"all of it"}})
	body := base64.StdEncoding.EncodeToString([]byte("{{severity}}|{{title}}|{{json fields}}|{{message}}"))
	s.ok(s.conf.Change(t.Context(), confdir.Notifications, func([]byte) ([]byte, error) {
		return []byte("webhook: hook\n\tbody " + body + "\n\tmethod post\n\turl " + hook.URL + "\n\nmatcher: all\n\ttarget hook\n"), nil
	}))
	s.start()
	if end, log := s.runJob(jobs.Verify, "weekly"); end.Kind != tasks.OK {
		t.Fatalf("%+v\n%s", end, log)
	}
	got := <-heard
	for _, want := range []string{
		"info|Verification of datastore 'tank', job 'weekly' on pbs1: done|",
		`{"datastore":"tank","hostname":"pbs1","job-id":"weekly","type":"verify"}`,
		"Comment:   all of it\n", "Result:    OK\n", "verify tank:vm/100/2024-06-05T15:06:40Z: ok\n", ": TASK OK\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	s.ok(os.WriteFile(filepath.Join(s.path("tank"), "vm/100/2024-06-05T15:06:40Z/vm.conf.blob"), []byte("x"), 0o644))
	if end, log := s.runJob(jobs.Verify, "weekly"); end.Kind != tasks.Failed {
		t.Fatalf("%+v\n%s", end, log)
	}
	if got := <-heard; !strings.HasPrefix(got, "error|Verification of datastore 'tank', job 'weekly' on pbs1: failed|") {
		t.Errorf("%s", got)
	}
}
