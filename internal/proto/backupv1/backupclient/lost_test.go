package backupclient

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/digest"
	"github.com/holdfast-backup/holdfast/internal/format/manifest"
	"github.com/holdfast-backup/holdfast/internal/proto/rest"
	"github.com/holdfast-backup/holdfast/internal/proto/upgrade"
	"github.com/holdfast-backup/holdfast/internal/repo"
)

// cut is a connection that ends after so many bytes from the client.
type cut struct {
	net.Conn
	left *atomic.Int64
}

func (c cut) Write(p []byte) (int, error) {
	if c.left.Add(-int64(len(p))) < 0 {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

// small backs up an image and a stream.
func small(ctx context.Context, t *testing.T, s *server) error {
	ses, err := s.Begin(ctx, repo.Begin{Snapshot: vm100})
	if err != nil {
		return err
	}
	err = smallIn(ctx, t, ses)
	return errors.Join(err, ses.Abort())
}

func smallIn(ctx context.Context, t *testing.T, ses repo.Session) error {
	send := func(b []byte) (digest.Digest, error) {
		_, err := ses.Put(ctx, digest.Of(b), len(b), encode(t, b))
		return digest.Of(b), err
	}
	fw, err := ses.CreateFixed("d.img.fidx", 2*chunk, chunk)
	if err != nil {
		return err
	}
	for i := range 2 {
		d, err := send(block(i))
		if err == nil {
			err = fw.Set(i, d)
		}
		if err != nil {
			return err
		}
	}
	sum, err := fw.Close()
	if err != nil {
		return err
	}
	m := manifest.New(vm100)
	m.Files = append(m.Files, manifest.File{Filename: "d.img.fidx", CryptMode: manifest.ModeNone, Size: 2 * chunk, Csum: sum})
	dw, err := ses.CreateDynamic("r.didx")
	if err != nil {
		return err
	}
	d, err := send([]byte("stream"))
	if err == nil {
		err = dw.Add(6, d)
	}
	if err != nil {
		return err
	}
	size, sum, err := dw.Close()
	if err != nil {
		return err
	}
	m.Files = append(m.Files, manifest.File{Filename: "r.didx", CryptMode: manifest.ModeNone, Size: size, Csum: sum})
	return ses.Finish(ctx, m)
}

// Wherever the connection ends, the client says so, and what it calls a success
// is there.
func TestConnectionEndsAnywhere(t *testing.T) {
	var left atomic.Int64
	st := store(t)
	s := &server{t: t, store: st, wrap: func(c net.Conn) net.Conn { return cut{c, &left} }}
	const plenty = 1 << 40
	left.Store(plenty)
	if err := small(t.Context(), t, s); err != nil {
		t.Fatal(err)
	}
	if err := s.ended(); err != nil {
		t.Fatal(err)
	}
	total := plenty - left.Load()
	if err := st.Forget(t.Context(), vm100); err != nil {
		t.Fatal(err)
	}
	for n := int64(0); n <= total; n += max(total/60, 1) {
		left.Store(n)
		cerr := small(t.Context(), t, s)
		serr := s.ended()
		seen := visible(t, st)
		if cerr == nil && seen != 1 || serr == nil && seen != 1 || serr != nil && seen != 0 {
			t.Fatalf("cut after %d bytes: %d snapshots, client %v, server %v", n, seen, cerr, serr)
		}
		if lost, ok := errors.AsType[*upgrade.LostError](cerr); cerr != nil && (!ok || lost.Peer != "pbs:8007") {
			t.Errorf("cut after %d bytes: %v, want a lost connection", n, cerr)
		}
		if seen == 1 {
			if err := st.Forget(t.Context(), vm100); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// refusing answers some calls with an error.
type refusing struct {
	http.Handler
	fails func(r *http.Request) bool
}

func (h refusing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.fails(r) {
		rest.Fail(w, errors.New("the disk is full"))
		return
	}
	h.Handler.ServeHTTP(w, r)
}

// Uploads are on their way when Put returns; their failure is nevertheless the
// end of the session, wherever it is met.
func TestFailedUploadFailsTheSession(t *testing.T) {
	for _, path := range []string{"/fixed_chunk", "/fixed_index", "/dynamic_chunk", "/dynamic_index", "/fixed_close", "/dynamic_close", "/blob", "/finish"} {
		for at := range int64(2) {
			var n atomic.Int64
			fake := newFake()
			near, far := pipe(t)
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() {
				done <- upgrade.New(far).Serve(ctx, refusing{fake, func(r *http.Request) bool { return r.URL.Path == path && n.Add(1) == at+1 }}, quiet)
			}()
			conn, err := upgrade.NewClient(t.Context(), near, "pbs:8007")
			if err != nil {
				t.Fatal(err)
			}
			ses, err := Begin(t.Context(), conn, vm100, Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = smallIn(t.Context(), t, ses)
			if hit := n.Load() > at; hit != (err != nil) || hit && !strings.Contains(err.Error(), "the disk is full") {
				t.Errorf("%s fails at call %d: %v", path, at+1, err)
			}
			if err != nil {
				if _, err := ses.Put(t.Context(), digest.Of(nil), 1, encode(t, nil)); err == nil && (strings.Contains(path, "_chunk") || path == "/fixed_index" && at == 1) {
					t.Errorf("%s fails at call %d: the session goes on", path, at+1)
				}
			}
			if err := ses.Abort(); err != nil {
				t.Error(err)
			}
			stop()
			<-done
		}
	}
}

// The budget holds however many workers there are and however slow the server.
func TestUploadsStayWithinTheirBudget(t *testing.T) {
	var busy, most atomic.Int64
	release := make(chan struct{})
	fake := newFake()
	near, far := pipe(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_ = upgrade.New(far).Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/dynamic_chunk" {
				most.Store(max(most.Load(), busy.Add(1)))
				<-release
				defer busy.Add(-1)
			}
			fake.ServeHTTP(w, r)
		}), quiet)
	}()
	conn, err := upgrade.NewClient(t.Context(), near, "pbs:8007")
	if err != nil {
		t.Fatal(err)
	}
	raw := make([]byte, 1<<20)
	ses, err := Begin(t.Context(), conn, vm100, Options{InFlight: 5 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ses.CreateDynamic("a.didx"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var put atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			if _, err := ses.Put(t.Context(), digest.Of([]byte{byte(i)}), 1<<20, raw); err != nil {
				t.Error(err)
			}
			put.Add(1)
		})
	}
	for busy.Load() < 5 {
		runtime.Gosched()
	}
	time.Sleep(20 * time.Millisecond) // too short only makes the test pass
	if n := put.Load(); n != 5 {
		t.Errorf("%d calls returned while five bodies of a MiB are on their way", n)
	}
	close(release)
	wg.Wait()
	if most.Load() != 5 {
		t.Errorf("%d uploads at a time", most.Load())
	}
	if err := ses.Abort(); err != nil {
		t.Error(err)
	}
}

// A session that waits for its server ends with its context.
func TestHangingServerDoesNotHoldUpTheEnd(t *testing.T) {
	near, far := pipe(t)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	fake := newFake()
	go func() {
		_ = upgrade.New(far).Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				<-r.Context().Done()
				return
			}
			fake.ServeHTTP(w, r)
		}), quiet)
	}()
	conn, err := upgrade.NewClient(t.Context(), near, "pbs:8007")
	if err != nil {
		t.Fatal(err)
	}
	mine, cancel := context.WithCancelCause(t.Context())
	ses, err := Begin(mine, conn, vm100, Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := ses.CreateDynamic("a.didx")
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("interrupted")
	time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
	d := put(t, ses, []byte("x"))
	for end := uint64(1); ; end++ { // until the queue is full
		if err = w.Add(end, d); err != nil {
			break
		}
	}
	if !errors.Is(err, why) {
		t.Errorf("err = %v, want the cause", err)
	}
	if err := ses.Abort(); err != nil {
		t.Error(err)
	}
}

// fake is a server that believes everything.
type fake struct {
	mu  sync.Mutex
	wid int
}

func newFake() *fake { return &fake{} }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 64<<10)
	for {
		if _, err := r.Body.Read(buf); err != nil {
			break
		}
	}
	var data any
	switch {
	case strings.HasSuffix(r.URL.Path, "_index") && r.Method == http.MethodPost:
		f.mu.Lock()
		f.wid++
		data = f.wid
		f.mu.Unlock()
	case strings.HasSuffix(r.URL.Path, "_chunk"):
		data = r.URL.Query().Get("digest")
	}
	_ = rest.Reply(w, data)
}
