package backupserver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

var (
	owner = names.AuthID{User: "root", Realm: "pam"}
	vm100 = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717600000}
)

// store makes a datastore in a directory.
func store(t testing.TB) (*datastore.Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store")
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	s, err := dir.Open(path, dir.Options{Sync: datastore.SyncNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if n := pagebuf.Outstanding(); n != 0 { // none of these tests runs beside another
			t.Errorf("%d buffers were not freed", n)
		}
	})
	return s, path
}

// peer is a client in its plainest form.
type peer struct {
	t     testing.TB
	c     *upgrade.Client
	conn  net.Conn
	ended chan error

	mu  sync.Mutex
	log []string
}

// config is that of a usual session.
func config(r Beginner, s names.Snapshot) Config {
	return Config{Repo: r, Request: upgrade.Request{Store: "tank", Snapshot: s}, Auth: owner}
}

// begin starts a session and connects to it.
func begin(t testing.TB, c Config) *peer {
	t.Helper()
	p := &peer{t: t, ended: make(chan error, 1)}
	c.Log = func(format string, args ...any) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.log = append(p.log, fmt.Sprintf(format, args...))
	}
	ses, err := Begin(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p.connect(ses)
	return p
}

func (p *peer) connect(ses *Session) {
	p.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if p.conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
		p.t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	go func() { p.ended <- ses.Serve(context.WithoutCancel(p.t.Context()), upgrade.New(far)) }()
	if p.c, err = upgrade.NewClient(p.t.Context(), p.conn, "server"); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = p.leave() })
}

// leave ends the connection and returns what became of the session.
func (p *peer) leave() error {
	_ = p.c.Close()
	err := <-p.ended
	p.ended <- err // for whoever asks again
	return err
}

// call makes a call. A body that is no []byte is sent as JSON.
func (p *peer) call(method, path string, query url.Values, body any) (int, string) {
	p.t.Helper()
	var from io.Reader
	kind := ""
	switch b := body.(type) {
	case nil:
	case []byte:
		from = bytes.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			p.t.Fatal(err)
		}
		from, kind = bytes.NewReader(text), "application/json"
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, path, from)
	if err != nil {
		p.t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := p.c.Do(r)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp.StatusCode, string(b)
}

// ok makes a call that must succeed, and returns its data as JSON text.
func (p *peer) ok(method, path string, query url.Values, body any) string {
	p.t.Helper()
	status, text := p.call(method, path, query, body)
	if status != 200 {
		p.t.Fatalf("%s %s %v: %d %s", method, path, query, status, text)
	}
	var envelope struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(text), &envelope); err != nil || envelope.Data == nil {
		p.t.Fatalf("%s %s: answer %q, %v", method, path, text, err)
	}
	return string(envelope.Data)
}

// refused makes a call that must fail with a status and words.
func (p *peer) refused(status int, words, method, path string, query url.Values, body any) {
	p.t.Helper()
	got, text := p.call(method, path, query, body)
	if got != status || !strings.Contains(text, words) || len(text) < 8 {
		p.t.Errorf("%s %s %v: %d %q, want %d and %q", method, path, query, got, text, status, words)
	}
}

// values makes a query of names and values in turn.
func values(pairs ...any) url.Values {
	q := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		q.Set(pair[0].(string), fmt.Sprint(pair[1]))
	}
	return q
}

// encode makes a blob.
func encode(t testing.TB, plain []byte) []byte {
	t.Helper()
	e, err := blob.NewEncoder(nil, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	raw, err := e.Append(nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// chunk uploads a chunk; path is that of its kind.
func (p *peer) chunk(path string, wid int, plain []byte) digest.Digest {
	p.t.Helper()
	d, raw := digest.Of(plain), encode(p.t, plain)
	got := p.ok("POST", path, values("wid", wid, "digest", d, "size", len(plain), "encoded-size", len(raw)), raw)
	if got != `"`+d.String()+`"` {
		p.t.Fatalf("upload of %s answers %s", d, got)
	}
	return d
}

type list map[string]any

func (p *peer) append(path string, wid int, ds []digest.Digest, offsets ...int64) {
	p.t.Helper()
	if got := p.ok("PUT", path, nil, list{"wid": wid, "digest-list": ds, "offset-list": offsets}); got != "null" {
		p.t.Fatalf("append answers %s", got)
	}
}

// blob uploads a small file.
func (p *peer) blob(name string, plain []byte) manifest.File {
	p.t.Helper()
	raw := encode(p.t, plain)
	p.ok("POST", "/blob", values("file-name", name, "encoded-size", len(raw)), raw)
	return manifest.File{Filename: name, CryptMode: manifest.ModeNone, Size: uint64(len(raw)), Csum: digest.Of(raw)}
}

// manifest uploads the manifest of what was written.
func (p *peer) manifest(s names.Snapshot, files ...manifest.File) {
	p.t.Helper()
	m := manifest.New(s)
	for _, f := range files {
		if err := m.Add(f); err != nil {
			p.t.Fatal(err)
		}
	}
	text, err := m.Marshal()
	if err != nil {
		p.t.Fatal(err)
	}
	p.blob("index.json.blob", text)
}

func (p *peer) finish() {
	p.t.Helper()
	if got := p.ok("POST", "/finish", nil, nil); got != "null" {
		p.t.Fatalf("finish answers %s", got)
	}
	if err := p.leave(); err != nil {
		p.t.Fatalf("session ended with %v", err)
	}
}

// sumOf is the checksum of a fixed index.
func sumOf(ds ...digest.Digest) digest.Digest {
	var table []byte
	for _, d := range ds {
		table = append(table, d[:]...)
	}
	return digest.Of(table)
}

// visible lists what a reader sees.
func visible(t testing.TB, s *datastore.Store, g names.Group) (all []string) {
	t.Helper()
	infos, err := s.Snapshots(t.Context(), names.Root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if i.Snapshot.Group == g {
			all = append(all, i.Snapshot.String())
		}
	}
	return all
}

// verify reads everything of a store.
func verify(t testing.TB, s *datastore.Store, want int) {
	t.Helper()
	rep, err := s.Verify(t.Context(), repo.VerifyOptions{Recursive: true})
	if err != nil || len(rep.Snapshots) != want {
		t.Fatalf("%d snapshots verified, %v, want %d", len(rep.Snapshots), err, want)
	}
	for _, v := range rep.Snapshots {
		if len(v.Errors) > 0 || v.Skipped != "" {
			t.Errorf("%s: %s %v", v.Snapshot, v.Skipped, v.Errors)
		}
	}
}

func at(s names.Snapshot, seconds int64) names.Snapshot {
	s.Time += seconds
	return s
}

// listen opens a port for one test.
func listen(t testing.TB) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, "http://" + l.Addr().String()
}
