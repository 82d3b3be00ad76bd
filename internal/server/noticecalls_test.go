package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/server/jobs"
	"github.com/holdfast-backup/holdfast/internal/server/tasks"
)

func TestNotificationsAreConfiguredAndTried(t *testing.T) {
	heard := make(chan string, 8)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		heard <- r.Header.Get("X-Key") + " " + string(b)
	}))
	defer hook.Close()
	s := newSite(t).start()
	s.addJob(jobs.Verify, "weekly", jobs.Values{"store": {"tank"}, "comment": {"all of it"}})
	c := s.login("admin@pbs")
	const at = "/config/notifications"
	c.post(at+"/endpoints/webhook", "name", "chat", "url", hook.URL, "method", "post", "header", "name=X-Key,value=e3tzZWNyZXRzLmtleX19",
		"body", "e3t0aXRsZX19", "secret", "name=key,value=aGlkZGVu").want(200, "null")
	c.post(at+"/matchers", "name", "failures", "match-severity", "error", "match-severity", "warning", "target", "chat", "target", "none").want(400, "not found")
	c.post(at+"/matchers", "name", "failures", "match-severity", "error,warning", "target", "chat").want(200, "null")
	want := map[string]any{
		"name": "chat", "url": hook.URL, "method": "post", "header": []any{"name=X-Key,value=e3tzZWNyZXRzLmtleX19"}, "body": "e3t0aXRsZX19",
		"secret": []any{"name=key"}, "origin": "user-created",
	}
	if diff := cmp.Diff(want, c.get(at+"/endpoints/webhook/chat").whole().Data); diff != "" {
		t.Error(diff)
	}
	c.post(at+"/targets/chat/test").want(200, "null")
	if got := <-heard; got != "hidden Holdfast: a test" {
		t.Errorf("%q", got)
	}
	c.put(at+"/endpoints/webhook/chat", "disable", "1", "secret", "name=key").want(200, "null")
	c.get(at+"/targets").want(200, `[{"name":"chat","type":"webhook","disable":true,"origin":"user-created"}]`)
	c.post(at+"/targets/chat/test").want(400, "disabled")
	c.put(at+"/endpoints/webhook/chat", "delete", "disable").want(200, "null")
	c.post(at+"/targets/chat/test").want(200, "null")
	if got := <-heard; got != "hidden Holdfast: a test" {
		t.Errorf("%q", got)
	}
	c.get(at+"/matcher-field-values").want(200, `{"field":"job-id","value":"weekly","comment":"all of it"}`)
	c.del(at+"/endpoints/webhook/chat").want(400, "failures")
	c.del(at+"/matchers/failures").want(200, "null")
	c.del(at+"/endpoints/webhook/chat").want(200, "null")
	c.get(at+"/endpoints/webhook").want(200, `"data":[]`)
}

// In the way of PBS before 3.2 one user gets mail about the jobs of a datastore.
func TestOneUserGetsMailAboutADatastore(t *testing.T) {
	s := newSite(t)
	mailbox := filepath.Join(t.TempDir(), "mails")
	s.opt.Sendmail = filepath.Join(t.TempDir(), "sendmail")
	s.ok(os.WriteFile(s.opt.Sendmail, []byte("#!/bin/sh\necho \"$@\" >> "+mailbox+"\ngrep ^Subject >> "+mailbox+"\n"), 0o700))
	s.ok(s.store.ChangeUsers(t.Context(), "", func(u *access.Users) error {
		a, err := u.Find(auth("admin@pbs"))
		if err != nil {
			return err
		}
		a.Email = "admin@example.org"
		return u.Change(a)
	}))
	s.small("tank", snapshot("", "vm/100", day1), "admin@pbs")
	s.addJob(jobs.Verify, "weekly", jobs.Values{"store": {"tank"}, "ignore-verified": {"false"}})
	s.addJob(jobs.Prune, "daily", jobs.Values{"store": {"tank"}, "keep-last": {"1"}})
	s.addJob(jobs.Sync, "broken", jobs.Values{"store": {"tank"}, "remote": {"none"}, "remote-store": {"tank"}})
	s.start()
	c := s.login("admin@pbs")
	// Who gets messages otherwise.
	c.post("/config/notifications/endpoints/sendmail", "name", "team", "mailto", "team@example.org").want(200, "null")
	c.post("/config/notifications/matchers", "name", "all", "target", "team").want(200, "null")
	c.put("/config/datastore/tank", "notify", "verify=sometimes").want(400, "notify")
	run := func(k jobs.Kind, id string, want tasks.Kind) {
		t.Helper()
		if end, log := s.runJob(k, id); end.Kind != want {
			t.Errorf("%+v\n%s", end, log)
		}
		s.server.Wait()
	}
	all := func() {
		t.Helper()
		run(jobs.Verify, "weekly", tasks.OK)
		run(jobs.Prune, "daily", tasks.OK)
		run(jobs.Sync, "broken", tasks.Failed)
	}
	const args = "-B 8BITMIME -f root@pbs1 -- admin@example.org\nSubject: "
	for _, tc := range []struct {
		set  []string
		want []string
		team int
	}{
		{[]string{"notify-user", "admin@pbs"}, []string{"Verification", "Sync"}, 0},
		{[]string{"notify", "verify=error,prune=always,sync=never"}, []string{"Pruning"}, 0},
		{[]string{"notification-mode", "notification-system"}, nil, 3},
		{[]string{"notification-mode", "legacy-sendmail", "delete", "notify"}, []string{"Verification", "Sync"}, 0},
	} {
		c.put("/config/datastore/tank", tc.set...).want(200, "null")
		all()
		b, err := os.ReadFile(mailbox)
		if err != nil && tc.want != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, word := range tc.want {
			if !strings.Contains(text, args+word+" of") && !strings.Contains(text, args+"=?utf-8?q?"+word) {
				t.Errorf("%q: no mail about %s:\n%s", tc.set, word, text)
			}
		}
		if n := strings.Count(text, "admin@example.org\nSubject: "); n != len(tc.want) {
			t.Errorf("%q: %d mails:\n%s", tc.set, n, text)
		}
		if n := strings.Count(text, "team@example.org\nSubject: "); n != tc.team {
			t.Errorf("%q: %d mails to others:\n%s", tc.set, n, text)
		}
		_ = os.Remove(mailbox)
	}
}
