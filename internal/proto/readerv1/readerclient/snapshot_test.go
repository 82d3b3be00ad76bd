package readerclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/datastore"
	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/blob"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/format/names"
	"github.com/holdfast-backup/holdfast/internal/image/target"
	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/readerv1/readerserver"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/dir"
	"github.com/holdfast-backup/holdfast/internal/restore"
)

var vm100 = names.Snapshot{Group: names.Group{Type: names.VM, ID: "100"}, Time: 1717600000}

const (
	chunkSize = 4 << 20
	chunks    = 24 // of the image, the last one short
)

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

// content is that of the n-th chunk of the image.
func content(n int) []byte {
	b := make([]byte, chunkSize)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b[:chunkSize/2])
	if n == chunks-1 {
		b = b[:12345]
	}
	return b
}

// stored makes a datastore with one snapshot of an image, a stream and a blob.
func stored(t testing.TB) *datastore.Store {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "store")
	must(dir.Create(t.Context(), path, datastore.CreateOptions{Lazy: true}))
	s, err := dir.Open(path, dir.Options{Sync: datastore.SyncNone})
	must(err)
	t.Cleanup(func() {
		_ = s.Close()
		if n := pagebuf.Outstanding(); n != 0 { // none of these tests runs beside another
			t.Errorf("%d buffers were not freed", n)
		}
	})
	ses, err := s.Begin(t.Context(), repo.Begin{Snapshot: vm100})
	must(err)
	m := manifest.New(vm100)
	size := int64(chunks-1)*chunkSize + 12345
	fw, err := ses.CreateFixed("d.img.fidx", size, chunkSize)
	must(err)
	for i := range chunks {
		d := digest.Of(content(i))
		_, err := ses.Put(t.Context(), d, len(content(i)), encode(t, content(i)))
		must(err)
		must(fw.Set(i, d))
	}
	sum, err := fw.Close()
	must(err)
	must(m.Add(manifest.File{Filename: "d.img.fidx", CryptMode: manifest.ModeNone, Size: uint64(size), Csum: sum}))
	dw, err := ses.CreateDynamic("r.pxar.didx")
	must(err)
	d := digest.Of([]byte("stream"))
	_, err = ses.Put(t.Context(), d, 6, encode(t, []byte("stream")))
	must(err)
	must(dw.Add(6, d))
	end, sum, err := dw.Close()
	must(err)
	must(m.Add(manifest.File{Filename: "r.pxar.didx", CryptMode: manifest.ModeNone, Size: end, Csum: sum}))
	raw := encode(t, []byte("conf"))
	must(ses.PutBlob(t.Context(), "a.conf.blob", raw))
	must(m.Add(manifest.File{Filename: "a.conf.blob", CryptMode: manifest.ModeNone, Size: uint64(len(raw)), Csum: digest.Of(raw)}))
	must(ses.Finish(t.Context(), m))
	return s
}

// serve has a handler answer on a connection, of which it returns the other end.
func serve(t testing.TB, h http.Handler) net.Conn {
	t.Helper()
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
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = upgrade.New(far).Serve(context.WithoutCancel(t.Context()), h, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() { _ = near.Close(); <-done })
	return near
}

// open opens a snapshot; change may stand before the server.
func open(t testing.TB, s *datastore.Store, change func(http.Handler) http.Handler) (*Snapshot, error) {
	t.Helper()
	ses, err := readerserver.Open(t.Context(), readerserver.Config{Repo: s, Request: upgrade.Request{Snapshot: vm100}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ses.Close() })
	var h http.Handler = ses
	if change != nil {
		h = change(h)
	}
	conn, err := upgrade.NewClient(t.Context(), serve(t, h), "pbs:8007")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(t.Context(), conn, vm100)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, nil
}

// The promises of repo.Snapshot, held by a datastore and by one behind the wire.
func TestSnapshotsKeepTheirPromises(t *testing.T) {
	s := stored(t)
	for name, open := range map[string]func(t *testing.T) repo.Snapshot{
		"local": func(t *testing.T) repo.Snapshot {
			p, err := s.Open(t.Context(), vm100)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = p.Close() })
			return p
		},
		"wire": func(t *testing.T) repo.Snapshot {
			p, err := open(t, s, nil)
			if err != nil {
				t.Fatal(err)
			}
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t)
			if p.Name() != vm100 || len(p.Manifest().Files) != 3 {
				t.Fatalf("%s with %v", p.Name(), p.Manifest().Files)
			}
			if got, err := p.Blob("a.conf.blob"); err != nil || !bytes.Equal(got, encode(t, []byte("conf"))) {
				t.Errorf("blob: %q, %v", got, err)
			}
			for _, name := range []names.Archive{"no.conf.blob", names.ClientLog} {
				if _, err := p.Blob(name); !errors.Is(err, repo.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if _, _, err := p.OpenFixed("no.img.fidx"); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("no such index: %v", err)
			}
			if _, _, err := p.OpenDynamic("no.didx"); !errors.Is(err, repo.ErrNotFound) {
				t.Errorf("no such index: %v", err)
			}
			x, c, err := p.OpenDynamic("r.pxar.didx")
			if err != nil || x.Size() != 6 {
				t.Fatal(err)
			}
			e, err := x.Entry(0)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			for _, buf := range [][]byte{nil, make([]byte, 5, 1000)} {
				if got, err := p.ReadChunk(t.Context(), e.Digest, buf); err != nil || !bytes.Equal(got, encode(t, []byte("stream"))) {
					t.Errorf("chunk: %q, %v", got, err)
				}
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("enough")
			cancel(why)
			if _, err := p.ReadChunk(ctx, e.Digest, nil); !errors.Is(err, why) {
				t.Errorf("cancelled: %v", err)
			}

			path := filepath.Join(t.TempDir(), "restored")
			to, err := target.Create(path, int64(chunks-1)*chunkSize+12345, target.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := restore.Image(t.Context(), p, "d.img.fidx", nil, to, restore.Options{Workers: 3}); err != nil {
				t.Fatal(err)
			}
			if err := to.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := range chunks {
				want := content(i)
				if part := got[i*chunkSize:][:len(want)]; !bytes.Equal(part, want) {
					t.Fatalf("slot %d was restored as something else", i)
				}
			}
		})
	}
}

func all(t *testing.T, p *Snapshot) []digest.Digest {
	t.Helper()
	x, c, err := p.OpenFixed("d.img.fidx")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	ds := make([]digest.Digest, x.Count())
	if err := x.Digests(0, ds); err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestPrefetchedChunksAreAskedForOnce(t *testing.T) {
	s := stored(t)
	var asked, busy, most atomic.Int64
	gate := make(chan struct{})
	p, err := open(t, s, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/chunk" {
				asked.Add(1)
				most.Store(max(most.Load(), busy.Add(1)))
				defer busy.Add(-1)
				<-gate
			}
			h.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	ds := all(t, p)
	p.Prefetch(ds)
	p.Prefetch(ds[:4]) // on their way already
	for busy.Load() < MaxAhead {
		runtime.Gosched()
	}
	close(gate)
	read := func(i int) {
		got, err := p.ReadChunk(t.Context(), ds[i], nil)
		if err != nil || !bytes.Equal(got, encode(t, content(i))) {
			t.Errorf("chunk %d: %d bytes, %v", i, len(got), err)
		}
	}
	var wg sync.WaitGroup
	for i := range MaxAhead {
		wg.Go(func() { read(i) })
	}
	wg.Wait()
	for i := MaxAhead; i < len(ds); i++ { // those for which there was no room
		read(i)
	}
	if asked.Load() != int64(len(ds)) || most.Load() != MaxAhead {
		t.Errorf("%d calls for %d chunks, %d at a time", asked.Load(), len(ds), most.Load())
	}
	// Wrong guesses make room for better ones, and nothing is left at the end.
	for i := range chunks {
		p.Prefetch(ds[i : i+1])
	}
	if got, err := p.ReadChunk(t.Context(), ds[0], nil); err != nil || !bytes.Equal(got, encode(t, content(0))) {
		t.Errorf("a chunk whose prefetch was given up: %d bytes, %v", len(got), err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// lying answers calls of one path with something else.
func lying(path string, lie func(w http.ResponseWriter)) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RequestURI() == path || r.URL.Path == path {
				lie(w)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

func TestLiesOfAServerAreFoundOut(t *testing.T) {
	s := stored(t)
	say := func(b []byte) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { _, _ = w.Write(b) }
	}
	other := vm100
	other.Time++
	text, err := manifest.New(other).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"no blob": []byte("hello"), "no JSON": encode(t, []byte("{")), "another snapshot": encode(t, text)} {
		_, err := open(t, s, lying("/download?file-name=index.json.blob", say(b)))
		if _, ok := errors.AsType[*repo.CorruptError](err); !ok {
			t.Errorf("manifest: %s: %v", name, err)
		}
	}
	index := func(p *Snapshot) error { _, _, err := p.OpenFixed("d.img.fidx"); return err }
	stream := func(p *Snapshot) error { _, _, err := p.OpenDynamic("r.pxar.didx"); return err }
	conf := func(p *Snapshot) error { _, err := p.Blob("a.conf.blob"); return err }
	chunk := func(p *Snapshot) error {
		if _, _, err := p.OpenDynamic("r.pxar.didx"); err != nil {
			return err
		}
		_, err := p.ReadChunk(t.Context(), digest.Of([]byte("stream")), nil)
		return err
	}
	for _, tc := range []struct {
		name, path string
		lie        func(http.ResponseWriter)
		do         func(*Snapshot) error
		corrupt    bool
		words      string
	}{
		{"a foreign index", "/download?file-name=d.img.fidx", say([]byte("hello")), index, true, ""},
		{"an empty index", "/download?file-name=r.pxar.didx", say(nil), stream, true, ""},
		{"an index that is not there", "/download?file-name=d.img.fidx", func(w http.ResponseWriter) { http.NotFound(w, nil) }, index, true, "404"},
		{"another blob", "/download?file-name=a.conf.blob", say(encode(t, []byte("evil"))), conf, true, "checksum"},
		{"a longer blob", "/download?file-name=a.conf.blob", say(encode(t, []byte("longer"))), conf, true, "bytes"},
		{"a chunk without end", "/chunk", func(w http.ResponseWriter) {
			w.(http.Flusher).Flush()
			for range 18 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, chunk, false, "longer than"},
		{"a huge chunk", "/chunk", func(w http.ResponseWriter) { w.Header().Set("Content-Length", "9999999999"); w.(http.Flusher).Flush() }, chunk, false, "announces 9999999999 bytes"},
		{"half a chunk", "/chunk", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("x"))
			panic(http.ErrAbortHandler)
		}, chunk, false, "read chunk"},
	} {
		p, err := open(t, s, lying(tc.path, tc.lie))
		if err != nil {
			t.Fatal(err)
		}
		err = tc.do(p)
		if _, ok := errors.AsType[*repo.CorruptError](err); err == nil || ok != tc.corrupt || !strings.Contains(fmt.Sprint(err), strings.TrimSpace(tc.words)) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestChunkWithoutAnnouncedLengthIsRead(t *testing.T) {
	s := stored(t)
	p, err := open(t, s, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/chunk" {
				w.(http.Flusher).Flush() // the headers are out, without one
			}
			h.ServeHTTP(w, r)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	ds := all(t, p)
	p.Prefetch(ds[:1])
	for i := range 2 {
		if got, err := p.ReadChunk(t.Context(), ds[i], nil); err != nil || !bytes.Equal(got, encode(t, content(i))) {
			t.Errorf("chunk %d: %d bytes, %v", i, len(got), err)
		}
	}
}

func TestMissingAndUnnamedChunksAreToldApart(t *testing.T) {
	s := stored(t)
	p, err := open(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := digest.Of(content(3))
	if _, err := p.ReadChunk(t.Context(), d, nil); err == nil || errors.Is(err, repo.ErrChunkMissing) {
		t.Errorf("a chunk of no open index: %v", err)
	}
	all(t, p)
	if err := os.Remove(filepath.Join(s.Location(), names.ChunkPath(d))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.ReadChunk(t.Context(), d, nil); !errors.Is(err, repo.ErrChunkMissing) {
		t.Errorf("a chunk that is gone: %v", err)
	}
}

func TestEndOfTheConnectionIsToldByEveryCall(t *testing.T) {
	s := stored(t)
	p, err := open(t, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	ds := all(t, p)
	p.Prefetch(ds)
	_ = p.conn.Close()
	for name, err := range map[string]error{
		"chunk": func() error { _, err := p.ReadChunk(t.Context(), ds[20], nil); return err }(),
		"blob":  func() error { _, err := p.Blob("a.conf.blob"); return err }(),
		"index": func() error { _, _, err := p.OpenFixed("d.img.fidx"); return err }(),
	} {
		if lost, ok := errors.AsType[*upgrade.LostError](err); !ok || lost.Peer != "pbs:8007" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
