package notify_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/notify"
)

func conf(t testing.TB, public, private string) confdir.Dir {
	t.Helper()
	d := confdir.New(filepath.Join(t.TempDir(), "etc"))
	if err := d.Make(); err != nil {
		t.Fatal(err)
	}
	for f, text := range map[confdir.File]string{confdir.Notifications: public, confdir.NotifySecrets: private} {
		if err := d.Change(t.Context(), f, func([]byte) ([]byte, error) { return []byte(text), nil }); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// options for tests: what fails is tried again at once.
func options(t testing.TB, log io.Writer) notify.Options {
	return notify.Options{
		Hostname: "pbs1", Location: time.UTC, Log: slog.New(slog.NewTextHandler(log, nil)),
		Address: func(id string) string { return map[string]string{"root@pam": "root@example.org"}[id] },
		Sleep:   func(ctx context.Context, _ time.Duration) error { return context.Cause(ctx) },
	}
}

func load(t testing.TB, d confdir.Dir, o notify.Options) *notify.Config {
	t.Helper()
	c, err := notify.Load(d, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func message(s notify.Severity, fields ...string) notify.Message {
	m := notify.Message{
		Severity: s, Title: "Prüfung of 'tank' failed", Text: "It says:\n=> \"no\" & <never>\n.\nEnd",
		Time: time.Date(2026, 6, 3, 10, 30, 0, 0, time.UTC), Fields: map[string]string{}, // a Wednesday
	}
	for i := 0; i < len(fields); i += 2 {
		m.Fields[fields[i]] = fields[i+1]
	}
	return m
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestMatchersChooseTargets(t *testing.T) {
	const targets = "sendmail: a\n\tmailto a@example.org\n\nsendmail: b\n\tmailto b@example.org\n\nsendmail: off\n\tdisable true\n\tmailto c@example.org\n\n"
	for _, tc := range []struct {
		name, matchers string
		m              notify.Message
		want           []string
	}{
		{"nothing asked", "matcher: one\n\ttarget a\n", message(notify.Info), []string{"a"}},
		{"the same target twice", "matcher: one\n\ttarget a\n\ttarget b\n\nmatcher: two\n\ttarget b\n\ttarget a\n", message(notify.Info), []string{"a", "b"}},
		{"a disabled target", "matcher: one\n\ttarget off\n", message(notify.Info), nil},
		{"a disabled matcher", "matcher: one\n\tdisable true\n\ttarget a\n", message(notify.Info), nil},
		{"severity", "matcher: one\n\tmatch-severity warning,error\n\ttarget a\n", message(notify.Error), []string{"a"}},
		{"another severity", "matcher: one\n\tmatch-severity warning,error\n\ttarget a\n", message(notify.Info), nil},
		{"inverted", "matcher: one\n\tinvert-match true\n\tmatch-severity info\n\ttarget a\n", message(notify.Error), []string{"a"}},
		{"field", "matcher: one\n\tmatch-field exact:type=gc, prune\n\ttarget a\n", message(notify.Info, "type", "prune"), []string{"a"}},
		{"no such field", "matcher: one\n\tmatch-field exact:type=gc\n\ttarget a\n", message(notify.Info), nil},
		{"expression", "matcher: one\n\tmatch-field regex:datastore=^ta\n\ttarget a\n", message(notify.Info, "datastore", "tank"), []string{"a"}},
		{"all of them", "matcher: one\n\tmatch-field exact:type=gc\n\tmatch-severity error\n\ttarget a\n", message(notify.Info, "type", "gc"), nil},
		{"any of them", "matcher: one\n\tmatch-field exact:type=gc\n\tmatch-severity error\n\tmode any\n\ttarget a\n", message(notify.Info, "type", "gc"), []string{"a"}},
		{"time of day", "matcher: one\n\tmatch-calendar 8-10:31\n\ttarget a\n", message(notify.Info), []string{"a"}},
		{"another time of day", "matcher: one\n\tmatch-calendar 8:00-10:30\n\ttarget a\n", message(notify.Info), nil},
		{"weekday", "matcher: one\n\tmatch-calendar mon..fri 0-24\n\ttarget a\n", message(notify.Info), []string{"a"}},
		{"another weekday", "matcher: one\n\tmatch-calendar sat,sun 0-24\n\ttarget a\n", message(notify.Info), nil},
		{"one that cannot be read", "matcher: bad\n\tmatch-severity bad\n\ttarget b\n\nmatcher: good\n\ttarget a\n\ttarget missing\n", message(notify.Info), []string{"a"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log strings.Builder
			c := load(t, conf(t, targets+tc.matchers, ""), options(t, &log))
			var got []string
			for _, target := range c.Targets(tc.m) {
				got = append(got, target.Name())
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("%q, want %q; %s", got, tc.want, log.String())
			}
			if strings.Contains(tc.name, "cannot be read") && (!strings.Contains(log.String(), "name=bad") || !strings.Contains(log.String(), "target=missing")) {
				t.Errorf("nobody hears of it: %s", log.String())
			}
		})
	}
}

func TestWhatCannotBeReadIsLeftOutAndTold(t *testing.T) {
	for _, bad := range []string{
		"sendmail: x\n", "sendmail: x\n\tmailto nobody\n", "smtp: x\n\tmailto a@example.org\n", "smtp: x\n\tmailto a@example.org\n\tmode ssl\n\tserver s\n",
		"smtp: x\n\tmailto a@example.org\n\tport many\n\tserver s\n", "webhook: x\n\tmethod post\n", "webhook: x\n\tmethod head\n\turl http://x\n",
		"webhook: x\n\tbody ???\n\turl http://x\n", "webhook: x\n\theader name=A,value=?\n\turl http://x\n", "webhook: x\n\turl http://x/{{#if\n",
		"matcher: x\n\tmode some\n", "matcher: x\n\tmatch-field type=gc\n", "matcher: x\n\tmatch-field regex:type=(\n", "matcher: x\n\tmatch-calendar 12-8\n",
		"matcher: x\n\tmatch-calendar 8-25\n", "pigeon: x\n\tmailto a@example.org\n",
	} {
		var log strings.Builder
		c := load(t, conf(t, bad, ""), options(t, &log))
		if _, ok := c.Find("x"); ok || !strings.Contains(log.String(), "name=x") {
			t.Errorf("%q: %s", bad, log.String())
		}
	}
}

// wantMail reads a mail back as a mail program does.
func wantMail(t *testing.T, text, from, to string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	for key, want := range map[string]string{
		"From": from, "To": to, "Subject": "=?utf-8?q?Pr=C3=BCfung_of_'tank'_failed?=", "Date": "Wed, 03 Jun 2026 10:30:00 +0000",
		"Auto-Submitted": "auto-generated", "Content-Type": "text/plain; charset=utf-8",
	} {
		if got := m.Header.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	body, err := io.ReadAll(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(string(body), "\r\n", "\n"); got != "It says:\n=3D> \"no\" & <never>\n.\nEnd\n" {
		t.Errorf("%q", got)
	}
}

func TestSendmailGetsTheMail(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sendmail")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncd "+dir+"\necho \"$@\" > args\ncat > mail\n[ ! -e broken ] || { echo no queue; exit 75; }\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options(t, io.Discard)
	o.Sendmail = program
	c := load(t, conf(t, "sendmail: x\n\tmailto b@example.org\n\tmailto-user root@pam\n\tmailto-user nobody@pbs\n\nmatcher: m\n\ttarget x\n", ""), o)
	if err := c.Send(t.Context(), message(notify.Error)); err != nil {
		t.Fatal(err)
	}
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil || string(args) != "-B 8BITMIME -f root@pbs1 -- b@example.org root@example.org\n" {
		t.Errorf("%q, %v", args, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "mail"))
	if err != nil || strings.Contains(string(text), "\r") {
		t.Errorf("%q, %v", text, err)
	}
	wantMail(t, string(text), `"Holdfast (pbs1)" <root@pbs1>`, "b@example.org, root@example.org")
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), message(notify.Error)); err == nil || !strings.Contains(err.Error(), "no queue") {
		t.Errorf("%v", err)
	}
	none := load(t, conf(t, "sendmail: x\n\tmailto-user nobody@pbs\n\nmatcher: m\n\ttarget x\n", ""), o)
	if err := none.Send(t.Context(), message(notify.Error)); err == nil || !strings.Contains(err.Error(), "nobody@pbs") {
		t.Errorf("%v", err)
	}
}

// Nobody can add headers or recipients through what a message says.
func TestATitleOfSeveralLinesIsOne(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "sendmail")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncat > "+dir+"/mail\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	o := options(t, io.Discard)
	o.Sendmail = program
	c := load(t, conf(t, "sendmail: x\n\tmailto b@example.org\n\nmatcher: m\n\ttarget x\n", ""), o)
	m := message(notify.Info)
	m.Title = "one\r\nBcc: evil@example.org\r\n\r\ntwo"
	if err := c.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "mail"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := mail.ReadMessage(strings.NewReader(string(text)))
	if err != nil || got.Header.Get("Bcc") != "" || got.Header.Get("Subject") != "one Bcc: evil@example.org two" {
		t.Errorf("%v, %v", got.Header, err)
	}
}

func TestWebhooksGetWhatTheirTemplatesSay(t *testing.T) {
	var got []string
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s|%s|%s", r.Method, r.URL.RequestURI(), r.Header.Get("X-Key"), b))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "the key is k=y ")
	}))
	defer server.Close()
	public := "webhook: x\n\tbody " + b64(`{"text": "{{escape message}}", "all": {{json fields}}, "is": {{json severity}}, "at": {{timestamp}}, "raw": "{{title}}"{{#if fields.datastore}}, "store": 1{{/if}}}`) +
		"\n\theader name=X-Key,value=" + b64("Bearer {{secrets.key}}") + "\n\tmethod put\n\turl " + server.URL + "/{{url-encode fields.datastore}}?k={{secrets.key}}\n\nmatcher: m\n\ttarget x\n"
	private := "webhook: x\n\tsecret name=key,value=" + b64("k=y") + "\n"
	var log strings.Builder
	c := load(t, conf(t, public, private), options(t, &log))
	if err := c.Send(t.Context(), message(notify.Error, "datastore", "ta nk/1")); err != nil {
		t.Fatal(err)
	}
	want := `PUT /ta%20nk%2F1?k=k=y|Bearer k=y|{"text": "It says:\n=> \"no\" & <never>\n.\nEnd", "all": {"datastore":"ta nk/1"}, "is": "error", "at": 1780482600, "raw": "Prüfung of 'tank' failed", "store": 1}`
	if len(got) != 1 || got[0] != want {
		t.Errorf("%q\nwant %q", got, want)
	}
	status = http.StatusForbidden
	err := c.Send(t.Context(), message(notify.Error))
	if err == nil || !strings.Contains(err.Error(), "403") || strings.Contains(err.Error()+log.String(), "k=y") {
		t.Errorf("%v; %s", err, log.String())
	}
	server.Close()
	err = c.Send(t.Context(), message(notify.Error))
	if err == nil || strings.Contains(err.Error()+log.String(), "k=y") {
		t.Errorf("%v; %s", err, log.String())
	}
}

func TestASendingThatFailsIsTriedAgain(t *testing.T) {
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	var waited []time.Duration
	o := options(t, io.Discard)
	o.Sleep = func(_ context.Context, d time.Duration) error { waited = append(waited, d); return nil }
	d := conf(t, "webhook: x\n\tmethod post\n\turl "+server.URL+"\n\nmatcher: m\n\ttarget x\n", "")
	if err := load(t, d, o).Send(t.Context(), message(notify.Error)); err != nil || calls != 3 || len(waited) != 2 {
		t.Errorf("%v, %d calls, %v", err, calls, waited)
	}
	calls = -100
	stop := errors.New("the server was stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if err := load(t, d, o).Send(ctx, message(notify.Error)); err == nil || calls != -100 {
		t.Errorf("%v, %d", err, calls)
	}
}
