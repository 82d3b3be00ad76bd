package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/access"
	"github.com/holdfast-backup/holdfast/internal/accounts"
	"github.com/holdfast-backup/holdfast/internal/confdir"
	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/format/sectionconfig"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/secret"
	"github.com/holdfast-backup/holdfast/internal/server"
	"github.com/holdfast-backup/holdfast/internal/server/stores"
)

const password = "correct horse battery"

// site is a server with a datastore "tank", and what it knows.
type site struct {
	t      *testing.T
	dir    string
	conf   confdir.Dir
	store  *accounts.Store
	opt    server.Options
	server *server.Server
	addr   string
	log    *lines
	stop   func() error
}

// lines are what a server logs.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newSite makes a server's files: a datastore, and an administrator admin@pbs.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), log: new(lines)}
	s.conf = confdir.New(s.dir + "/conf")
	if err := s.conf.Make(); err != nil {
		t.Fatal(err)
	}
	s.store = accounts.NewStore(s.conf, slog.New(slog.DiscardHandler))
	s.addStore("tank")
	s.addUser("admin@pbs")
	s.grant("/", "admin@pbs", access.Admin)
	s.opt = server.Options{
		Config: s.conf, Node: "pbs1", Version: "test", Location: time.UTC,
		Log:   slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Grace: 10 * time.Second,
		Delay: server.Delays{Unauthorized: time.Millisecond, Forbidden: time.Millisecond},
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log)
		}
	})
	return s
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) path(store string) string { return s.dir + "/" + store }

func (s *site) addStore(name string) {
	s.t.Helper()
	s.ok(dir.Create(s.t.Context(), s.path(name), datastore.CreateOptions{Lazy: true}))
	s.ok(stores.New(s.conf).Add(s.t.Context(), stores.Addition{Name: name, Path: s.path(name), Reuse: true}))
}

func (s *site) setStore(name, key, value string) {
	s.t.Helper()
	s.ok(stores.New(s.conf).Change(s.t.Context(), "", func(f *sectionconfig.File) error {
		if value == "" {
			f.Find(name).Set(key)
		} else {
			f.Find(name).Set(key, value)
		}
		return nil
	}))
}

func auth(text string) names.AuthID {
	id, err := names.ParseAuthID(text)
	if err != nil {
		panic(err)
	}
	return id
}

func (s *site) addUser(id string) {
	s.t.Helper()
	s.ok(s.store.ChangeUsers(s.t.Context(), "", func(u *access.Users) error { return u.Add(access.Account{ID: auth(id)}) }))
	s.ok(s.store.SetPassword(s.t.Context(), auth(id), secret.New([]byte(password))))
}

func (s *site) addToken(id string) (key string) {
	s.t.Helper()
	k, err := s.store.AddToken(s.t.Context(), "", access.Account{ID: auth(id)})
	s.ok(err)
	return string(k.Reveal())
}

func (s *site) grant(path, id string, role access.Role) {
	s.t.Helper()
	s.ok(s.store.ChangeACL(s.t.Context(), "", func(a *access.ACL) error {
		a.Grant(access.Entry{Path: access.Path(path), Who: access.Who{ID: auth(id)}, Role: role, Propagate: true})
		return nil
	}))
}

// start starts the server.
func (s *site) start() *site {
	s.t.Helper()
	srv, err := server.New(s.opt)
	s.ok(err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.ok(err)
	s.server, s.addr = srv, l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-done })
	s.t.Cleanup(func() {
		if err := s.stop(); err != nil {
			s.t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

// client is somebody who asks the server.
type client struct {
	s    *site
	http *http.Client
	// Sent with each request.
	cookie, csrf, token string
}

func (s *site) client() *client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, MaxConnsPerHost: 8}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &client{s: s, http: &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// login returns a client with a ticket.
func (s *site) login(id string) *client {
	s.t.Helper()
	c := s.client()
	r := c.post("/access/ticket", "username", id, "password", password)
	var out struct{ Ticket, CSRFPreventionToken string }
	r.data(&out)
	c.cookie, c.csrf = "PBSAuthCookie="+out.Ticket, out.CSRFPreventionToken
	return c
}

// with returns a client with an API token.
func (s *site) with(id, key string) *client {
	c := s.client()
	c.token = "PBSAPIToken " + id + ":" + key
	return c
}

// reply is the answer to a request.
type reply struct {
	t      *testing.T
	name   string
	Status int
	Header http.Header
	Body   string
}

func (c *client) send(method, target, media, body string) reply {
	c.s.t.Helper()
	req, err := http.NewRequestWithContext(c.s.t.Context(), method, "https://"+c.s.addr+target, strings.NewReader(body))
	c.s.ok(err)
	for name, value := range map[string]string{"Content-Type": media, "Cookie": c.cookie, "CSRFPreventionToken": c.csrf, "Authorization": c.token} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	resp, err := c.http.Do(req)
	c.s.ok(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	c.s.ok(err)
	return reply{c.s.t, method + " " + target, resp.StatusCode, resp.Header, string(b)}
}

func values(pairs []string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

func (c *client) get(path string, pairs ...string) reply {
	c.s.t.Helper()
	return c.send("GET", "/api2/json"+path+"?"+values(pairs), "", "")
}

func (c *client) del(path string, pairs ...string) reply {
	c.s.t.Helper()
	return c.send("DELETE", "/api2/json"+path+"?"+values(pairs), "", "")
}

func (c *client) post(path string, pairs ...string) reply {
	c.s.t.Helper()
	return c.send("POST", "/api2/json"+path, "application/x-www-form-urlencoded", values(pairs))
}

func (c *client) put(path string, pairs ...string) reply {
	c.s.t.Helper()
	return c.send("PUT", "/api2/json"+path, "application/x-www-form-urlencoded", values(pairs))
}

// data reads the data of an answer that is to be good.
func (r reply) data(v any) {
	r.t.Helper()
	if r.Status != http.StatusOK {
		r.t.Fatalf("%s: %d %s", r.name, r.Status, r.Body)
	}
	var envelope struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(r.Body), &envelope); err != nil || envelope.Data == nil {
		r.t.Fatalf("%s: %v: %s", r.name, err, r.Body)
	}
	if v == nil {
		return
	}
	d := json.NewDecoder(bytes.NewReader(envelope.Data))
	if err := d.Decode(v); err != nil {
		r.t.Fatalf("%s: %v: %s", r.name, err, r.Body)
	}
}

// want checks status and text.
func (r reply) want(status int, text string) {
	r.t.Helper()
	if r.Status != status || !strings.Contains(r.Body, text) {
		r.t.Errorf("%s: %d %s, want %d with %q", r.name, r.Status, r.Body, status, text)
	}
}

// wait waits for a task and returns how it ended.
func (c *client) wait(r reply) string {
	c.s.t.Helper()
	var id string
	r.data(&id)
	for {
		var st struct{ Status, Exitstatus string }
		c.get("/nodes/localhost/tasks/" + pathEscape(id) + "/status").data(&st)
		if st.Status == "stopped" {
			return st.Exitstatus
		}
		time.Sleep(10 * time.Millisecond) // as clients do
	}
}

func TestPingAndVersion(t *testing.T) {
	s := newSite(t).start()
	s.client().get("/ping").want(200, `{"data":{"pong":true}}`)
	s.client().get("/version").want(401, "authentication failed")
	s.login("admin@pbs").get("/version").want(200, `{"data":{"version":"4.2","release":"3","repoid":"holdfast-test"}}`)
}

func pathEscape(s string) string {
	var b strings.Builder // as the CLI does: every byte that is not a letter or digit
	for _, c := range []byte(s) {
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func timeNow() time.Time { return time.Now() }

// randomness is a source that always gives the same.
type randomness struct{}

func (randomness) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i*37 + 11)
	}
	return len(p), nil
}

// json reads a whole answer that is to be good.
func (r reply) json(v any) {
	r.t.Helper()
	if r.Status != http.StatusOK {
		r.t.Fatalf("%s: %d %s", r.name, r.Status, r.Body)
	}
	if err := json.Unmarshal([]byte(r.Body), v); err != nil {
		r.t.Fatalf("%s: %v: %s", r.name, err, r.Body)
	}
}
