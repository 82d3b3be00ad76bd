package readerserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/proto/readerv1"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
)

var vm100 = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717600000}

const chunkSize = 4 << 20

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

// content is that of the n-th chunk of everything.
func content(n int) []byte {
	b := make([]byte, chunkSize)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// stored makes a datastore with one snapshot of an image, a stream and a blob.
func stored(t testing.TB) (s *datastore.Store, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "store")
	if err := dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	s, err := dir.Open(path, dir.Options{Sync: datastore.SyncNone})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	write(t, s, vm100)
	return s, path
}

func write(t testing.TB, s *datastore.Store, n names.Snapshot) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ses, err := s.Begin(t.Context(), repo.Begin{Snapshot: n})
	must(err)
	m := manifest.New(n)
	fw, err := ses.CreateFixed("d.img.fidx", 3*chunkSize, chunkSize)
	must(err)
	for i := range 3 {
		d := digest.Of(content(i))
		_, err := ses.Put(t.Context(), d, chunkSize, encode(t, content(i)))
		must(err)
		must(fw.Set(i, d))
	}
	sum, err := fw.Close()
	must(err)
	must(m.Add(manifest.File{Filename: "d.img.fidx", CryptMode: manifest.ModeNone, Size: 3 * chunkSize, Csum: sum}))
	dw, err := ses.CreateDynamic("r.pxar.didx")
	must(err)
	d := digest.Of([]byte("stream"))
	_, err = ses.Put(t.Context(), d, 6, encode(t, []byte("stream")))
	must(err)
	must(dw.Add(6, d))
	size, sum, err := dw.Close()
	must(err)
	must(m.Add(manifest.File{Filename: "r.pxar.didx", CryptMode: manifest.ModeNone, Size: size, Csum: sum}))
	raw := encode(t, []byte("conf"))
	must(ses.PutBlob(t.Context(), "a.conf.blob", raw))
	must(m.Add(manifest.File{Filename: "a.conf.blob", CryptMode: manifest.ModeNone, Size: uint64(len(raw)), Csum: digest.Of(raw)}))
	must(ses.Finish(t.Context(), m))
}

// begin opens a reader and connects to it.
func begin(t testing.TB, s Opener, n names.Snapshot) (*upgrade.Client, net.Conn, chan error) {
	t.Helper()
	near, ended := connect(t, s, n)
	c, err := upgrade.NewClient(t.Context(), near, "server")
	if err != nil {
		t.Fatal(err)
	}
	return c, near, ended
}

func connect(t testing.TB, s Opener, n names.Snapshot) (net.Conn, chan error) {
	t.Helper()
	ses, err := Open(t.Context(), Config{Repo: s, Request: upgrade.Request{Store: "tank", Snapshot: n, Debug: true}, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		ended <- ses.Serve(context.WithoutCancel(t.Context()), upgrade.New(far))
	}()
	t.Cleanup(func() {
		_ = near.Close()
		for range ended {
		}
	})
	return near, ended
}

func get(t testing.TB, c *upgrade.Client, path string, q url.Values) (int, []byte, error) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path+"?"+q.Encode(), nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, err
}

func want(t testing.TB, c *upgrade.Client, path string, q url.Values, content []byte) {
	t.Helper()
	status, b, err := get(t, c, path, q)
	if status != 200 || err != nil || !bytes.Equal(b, content) {
		t.Fatalf("%s?%s: %d, %v, %d bytes, want %d", path, q.Encode(), status, err, len(b), len(content))
	}
}

func refused(t testing.TB, c *upgrade.Client, path string, q url.Values, want int, words string) {
	t.Helper()
	status, b, err := get(t, c, path, q)
	if status != want || err != nil || !strings.Contains(string(b), words) {
		t.Errorf("%s?%s: %d %q, %v, want %d %q", path, q.Encode(), status, b, err, want, words)
	}
}

func TestFilesComeAsTheyAreStored(t *testing.T) {
	s, path := stored(t)
	c, _, _ := begin(t, s, vm100)
	for _, name := range []names.Archive{"index.json.blob", "d.img.fidx", "r.pxar.didx", "a.conf.blob", "d.img.fidx"} {
		b, err := os.ReadFile(filepath.Join(path, vm100.Path(), string(name)))
		if err != nil {
			t.Fatal(err)
		}
		want(t, c, "/download", readerv1.DownloadValues(name), b)
	}
	want(t, c, "/chunk", readerv1.ChunkValues(digest.Of([]byte("stream"))), encode(t, []byte("stream")))
	want(t, c, "/speedtest", nil, bytes.Repeat([]byte("A"), 1<<20))
	refused(t, c, "/download", readerv1.DownloadValues("no.conf.blob"), 404, "no.conf.blob")
	refused(t, c, "/download", readerv1.DownloadValues("client.log.blob"), 404, "client.log.blob")
	refused(t, c, "/download", readerv1.DownloadValues("no.img.fidx"), 400, "no.img.fidx")
	for _, name := range []string{"", "../owner", "../../100/owner.blob", "/etc/passwd.blob", ".protected", "a.txt", "a/b.blob", "a\x00.blob"} {
		refused(t, c, "/download", url.Values{"file-name": {name}}, 400, "'file-name'")
	}
	refused(t, c, "/chunk", url.Values{"digest": {"x"}}, 400, "'digest'")
	refused(t, c, "/nothing", nil, 404, "not found")
}

func TestOnlyChunksOfDownloadedIndexesAreRead(t *testing.T) {
	s, _ := stored(t)
	c, _, _ := begin(t, s, vm100)
	one := readerv1.ChunkValues(digest.Of(content(1)))
	refused(t, c, "/chunk", one, 401, "not allowed")
	refused(t, c, "/chunk", readerv1.ChunkValues(digest.Of([]byte("nowhere"))), 401, "not allowed") // it does not tell what is stored
	if status, _, err := get(t, c, "/download", readerv1.DownloadValues("r.pxar.didx")); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	refused(t, c, "/chunk", one, 401, "not allowed")
	if status, _, err := get(t, c, "/download", readerv1.DownloadValues("d.img.fidx")); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	var wg sync.WaitGroup
	for i := range 20 { // as many at a time as a server that pulls
		wg.Go(func() {
			status, b, err := get(t, c, "/chunk", readerv1.ChunkValues(digest.Of(content(i%3))))
			if raw := encode(t, content(i%3)); status != 200 || err != nil || !bytes.Equal(b, raw) {
				t.Errorf("chunk %d: %d, %v, %d bytes", i%3, status, err, len(b))
			}
		})
	}
	wg.Wait()
}

func TestSnapshotIsLockedAsLongAsItIsRead(t *testing.T) {
	s, _ := stored(t)
	c, _, ended := begin(t, s, vm100)
	if err := s.Forget(t.Context(), vm100); !errors.Is(err, repo.ErrLocked) {
		t.Fatalf("removed under a reader: %v", err)
	}
	// A backup that builds on it, and another reader, work beside.
	next := vm100
	next.Time++
	write(t, s, next)
	other, _, otherEnded := begin(t, s, vm100)
	want(t, other, "/download", readerv1.DownloadValues("a.conf.blob"), encode(t, []byte("conf")))
	_, _ = c.Close(), other.Close()
	for _, e := range []chan error{ended, otherEnded} {
		if err := <-e; err != nil {
			t.Errorf("a reader that left: %v", err)
		}
	}
	if err := s.Forget(t.Context(), vm100); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Repo: s, Request: upgrade.Request{Snapshot: vm100}})
	if rest.StatusOf(err) != 400 || !errors.Is(err, repo.ErrNotFound) {
		t.Fatalf("opened what is gone: %v", err)
	}
}

func TestDamageIsTold(t *testing.T) {
	s, path := stored(t)
	c, _, _ := begin(t, s, vm100)
	if status, _, err := get(t, c, "/download", readerv1.DownloadValues("d.img.fidx")); status != 200 || err != nil {
		t.Fatal(status, err)
	}
	gone := digest.Of(content(0))
	if err := os.Remove(filepath.Join(path, names.ChunkPath(gone))); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "/chunk", readerv1.ChunkValues(gone), 400, "chunk missing")
	index := filepath.Join(path, vm100.Path(), "r.pxar.didx")
	b, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(index, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, c, "/download", readerv1.DownloadValues("r.pxar.didx"), 400, "is corrupt")
}

// A client that does not read takes neither memory nor the turn of others.
func TestClientThatDoesNotReadHoldsUpNobody(t *testing.T) {
	s, _ := stored(t)
	near, ended := connect(t, s, vm100)
	if _, err := io.WriteString(near, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(near, near)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		t.Fatal(err)
	}
	send := func(stream uint32, path string) {
		var b bytes.Buffer
		e := hpack.NewEncoder(&b)
		for _, h := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "h"}, {Name: ":path", Value: path}} {
			if err := e.WriteField(h); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: b.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
			t.Fatal(err)
		}
	}
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	begun := map[uint32]bool{} // answers come in any order
	await := func(stream uint32) {
		for !begun[stream] {
			fr, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := fr.(*http2.MetaHeadersFrame); ok {
				if h.PseudoValue("status") != "200" {
					t.Fatalf("stream %d: %v", h.StreamID, h.Fields)
				}
				begun[h.StreamID] = true
			}
		}
	}
	send(1, "/download?file-name=d.img.fidx")
	await(1)
	const many = 200
	for i := range uint32(many) {
		send(3+2*i, "/chunk?"+readerv1.ChunkValues(digest.Of(content(int(i%3)))).Encode())
	}
	for i := range uint32(many) { // all have begun, none is read
		await(3 + 2*i)
	}
	other, _, _ := begin(t, s, vm100)
	want(t, other, "/download", readerv1.DownloadValues("a.conf.blob"), encode(t, []byte("conf")))
	_ = near.Close()
	if err := <-ended; err != nil {
		t.Errorf("err = %v", err)
	}
	if err := s.SetProtected(t.Context(), vm100, true); !errors.Is(err, repo.ErrLocked) {
		t.Errorf("the other reader's lock is gone: %v", err)
	}
}
