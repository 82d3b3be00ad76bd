package connect_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/holdfast-backup/holdfast/internal/objstore"
	"github.com/holdfast-backup/holdfast/internal/objstore/connect"
	"github.com/holdfast-backup/holdfast/internal/objstore/s3"
)

// near is an engine that is asked without a network, so in virtual time.
type near struct {
	engine http.Handler
	takes  time.Duration // each request

	mu           sync.Mutex
	flying, most int
}

func (n *near) RoundTrip(q *http.Request) (*http.Response, error) {
	n.mu.Lock()
	n.flying++
	n.most = max(n.most, n.flying)
	n.mu.Unlock()
	time.Sleep(n.takes)
	w := httptest.NewRecorder()
	q = q.Clone(q.Context())
	q.Header.Set("Content-Length", strconv.FormatInt(q.ContentLength, 10)) // a server has it there
	n.engine.ServeHTTP(w, q)
	n.mu.Lock()
	n.flying--
	n.mu.Unlock()
	return w.Result(), nil
}

func openNear(t *testing.T, takes time.Duration, o connect.Options) (*connect.Store, *near) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	n := &near{engine: gofakes3.New(backend).Server(), takes: takes}
	at, err := s3.ParseAddress("s3://bucket/p?endpoint=http://engine")
	if err != nil {
		t.Fatal(err)
	}
	o.Keys = s3.Options{AccessKey: "key", SecretKey: "secret", Transport: n}
	s, err := connect.Open(at, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, n
}

func TestBytesPassAtTheRatesOfTheOptions(t *testing.T) {
	const size = 8 << 20
	for _, tc := range []struct {
		name         string
		up, down     int64
		write, reads time.Duration
	}{
		{"no limit", 0, 0, 0, 0},
		{"up", 1 << 20, 0, 8 * time.Second, 0},
		{"down", 0, 2 << 20, 0, 4 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := openNear(t, 0, connect.Options{Up: tc.up, Down: tc.down})
				near := func(what string, d, want time.Duration) {
					if d < want*9/10 || d > want*11/10 {
						t.Errorf("%s took %v, want %v", what, d, want)
					}
				}
				start := time.Now()
				if _, err := s.Put(t.Context(), "o", bytes.NewReader(make([]byte, size)), objstore.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				near("writing", time.Since(start), tc.write)
				start = time.Now()
				o, err := s.Get(t.Context(), "o", 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, o); err != nil || n != size {
					t.Errorf("%d bytes, %v", n, err)
				}
				_ = o.Close()
				near("reading", time.Since(start), tc.reads)
			})
		})
	}
}

func TestManyRequestsAreOnTheirWayUnlessFewerAreWanted(t *testing.T) {
	for most, want := range map[int]int{0: 64, 5: 5} {
		synctest.Test(t, func(t *testing.T) {
			s, n := openNear(t, time.Second, connect.Options{Requests: most})
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() { _, _ = s.Stat(t.Context(), "none") })
			}
			wg.Wait()
			if n.most != want {
				t.Errorf("with %d in the options %d were on their way at once, want %d", most, n.most, want)
			}
		})
	}
}
