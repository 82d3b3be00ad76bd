package notify_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-backup/holdfast/internal/notify"
)

func TestGotifyGetsTheMessageWithItsPriority(t *testing.T) {
	var got map[string]any
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "POST" || r.URL.Path != "/push/message" || r.Header.Get("Authorization") != "Bearer hidden" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "no such application")
	}))
	defer server.Close()
	c := load(t, conf(t, "gotify: phone\n\tserver "+server.URL+"/push/\n", "gotify: phone\n\ttoken hidden\n"), options(t, t.Output()))
	target, ok := c.Find("phone")
	if !ok {
		t.Fatal("it is left out")
	}
	m := message(notify.Error)
	if err := target.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"title": m.Title, "message": m.Text, "priority": 9.0, "extras": map[string]any{"client::display": map[string]any{"contentType": "text/plain"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	status = http.StatusUnauthorized
	if err := target.Send(t.Context(), m); err == nil || !strings.Contains(err.Error(), "401 Unauthorized: no such application") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v", err)
	}
	server.Close()
	if err := target.Send(t.Context(), m); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v", err)
	}
}

func TestGotifyWithoutServerOrTokenIsLeftOut(t *testing.T) {
	c := load(t, conf(t, "gotify: one\n\tserver https://example.org\n\ngotify: two\n\tserver example.org\n", "gotify: two\n\ttoken x\n"), options(t, t.Output()))
	for _, name := range []string{"one", "two"} {
		if _, ok := c.Find(name); ok {
			t.Errorf("%s is a target", name)
		}
	}
}
