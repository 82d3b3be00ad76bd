package upgrade

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/holdfast-backup/holdfast/internal/format/address"
	"github.com/holdfast-backup/holdfast/internal/proto/trust"
)

var quiet = slog.New(slog.DiscardHandler)

// server serves one protocol on TLS with h, and sends what Serve returned.
func server(t *testing.T, ctx context.Context, h http.Handler) (*httptest.Server, chan error) {
	t.Helper()
	ended := make(chan error, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := Check(r, Backup); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c, err := Accept(w, Backup)
		if err != nil {
			t.Error(err)
			return
		}
		ended <- c.Serve(ctx, h, quiet)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{NextProtos: []string{"http/1.1"}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, ended
}

// dial opens a TLS connection that trusts the server's fingerprint.
func dial(t *testing.T, s *httptest.Server) net.Conn {
	t.Helper()
	conf := trust.Client("127.0.0.1", address.FingerprintOf(s.Certificate().Raw), nil)
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func request(t *testing.T, s *httptest.Server) *http.Request {
	r, err := http.NewRequest(http.MethodGet, s.URL+"//api2/json/backup?store=tank", nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t *testing.T, s *httptest.Server) *Client {
	t.Helper()
	c, resp, err := Open(t.Context(), dial(t, s), request(t, s), Backup)
	if err != nil || resp != nil {
		t.Fatalf("%v, %v", resp, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func get(ctx context.Context, c *Client, path string, body io.Reader) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, path, body)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// size answers with the length of the body.
var size = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	_, _ = fmt.Fprintf(w, "%s %d %v", r.URL, n, err)
})

func TestRequestsRunSideBySideOnOneUpgradedConnection(t *testing.T) {
	s, ended := server(t, t.Context(), size)
	c := open(t, s)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			got, err := get(t.Context(), c, fmt.Sprintf("/chunk?n=%d", i), bytes.NewReader(make([]byte, i*mib/4)))
			if want := fmt.Sprintf("/chunk?n=%d %d <nil>", i, i*mib/4); err != nil || got != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		})
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatalf("the client left, and the server calls it an error: %v", err)
	}
}

func TestRefusalIsTheServersWord(t *testing.T) {
	s, _ := server(t, t.Context(), size)
	c, resp, err := Open(t.Context(), dial(t, s), request(t, s), Reader)
	if c != nil || err != nil {
		t.Fatalf("%v, %v", c, err)
	}
	b, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 400 || !strings.Contains(string(b), "invalid protocol name") || err != nil {
		t.Fatalf("%s %q %v", resp.Status, b, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestEveryCallFailsTheSameWhenTheServerIsGone(t *testing.T) {
	inside := make(chan struct{})
	s, ended := server(t, t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside <- struct{}{}
		<-r.Context().Done()
	}))
	raw := dial(t, s)
	c, _, err := Open(t.Context(), raw, request(t, s), Backup)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := get(t.Context(), c, "/wait", nil)
			failed <- err
		}()
		<-inside
	}
	if err := raw.(*tls.Conn).NetConn().Close(); err != nil { // the line is cut
		t.Fatal(err)
	}
	for range 3 {
		if err, ok := errors.AsType[*LostError](<-failed); !ok || err.Peer != s.Listener.Addr().String() {
			t.Errorf("err = %v, want a LostError", err)
		}
	}
	<-ended
	if _, err := get(t.Context(), c, "/later", nil); !isLost(err) || !isLost(c.Err()) {
		t.Fatalf("err = %v, %v, want a LostError", err, c.Err())
	}
}

func isLost(err error) bool {
	_, ok := errors.AsType[*LostError](err)
	return ok
}

func TestServerThatClosesIsNamed(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	inside, finish := make(chan struct{}), make(chan struct{})
	s, ended := server(t, ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(inside)
		<-finish // not its context's end: its answer could be faster than the end of the connection
	}))
	c := open(t, s)
	failed := make(chan error, 1)
	go func() {
		_, err := get(t.Context(), c, "/wait", nil)
		failed <- err
	}()
	<-inside
	stop := errors.New("the task was stopped")
	cancel(stop)
	if err := <-failed; !isLost(err) || !strings.Contains(err.Error(), "the server closed it") && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("err = %v", err)
	}
	close(finish)
	if err := <-ended; !errors.Is(err, stop) {
		t.Errorf("Serve returned %v, want the cause", err)
	}
}

func TestServeWaitsForItsHandlers(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	inside, finish := make(chan struct{}), make(chan struct{})
	s, ended := server(t, ctx, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(inside)
		<-finish
	}))
	c := open(t, s)
	go func() { _, _ = get(t.Context(), c, "/slow", nil) }()
	<-inside
	cancel()
	select {
	case <-ended:
		t.Fatal("Serve returned while a handler ran")
	case <-time.After(50 * time.Millisecond): // too short only makes the test pass
	}
	close(finish)
	<-ended
}

func TestCancelledCallSaysWhyAndLeavesTheConnection(t *testing.T) {
	inside := make(chan struct{}, 1)
	s, _ := server(t, t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			inside <- struct{}{}
			<-r.Context().Done()
		}
	}))
	c := open(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	go func() { <-inside; cancel(why) }()
	if _, err := get(ctx, c, "/wait", nil); !errors.Is(err, why) {
		t.Errorf("err = %v, want the cause", err)
	}
	if _, err := get(t.Context(), c, "/next", nil); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // accepts in the kernel, never answers
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errors.New("too slow"))
	defer cancel()
	r, err := http.NewRequest(http.MethodGet, "http://"+l.Addr().String()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(ctx, conn, r, Backup); err == nil || !strings.Contains(err.Error(), "too slow") {
		t.Fatalf("err = %v", err)
	}
}

// An early client sends its preface right behind the request. What the server
// announces is what clients of a backup server were written against.
func TestServerTakesAnEarlyPrefaceAndAnnouncesItsWindows(t *testing.T) {
	s, _ := server(t, t.Context(), size)
	conn := dial(t, s)
	_, err := io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "+Backup+"\r\n\r\n"+http2.ClientPreface)
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: "+Backup+"\r\n\r\n"))
	if _, err := io.ReadFull(conn, head); err != nil || !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		t.Fatalf("%q, %v", head, err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 2}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 4 << 20}); err != nil {
		t.Fatal(err)
	}
	want := map[http2.SettingID]uint32{http2.SettingInitialWindowSize: 32 << 20, http2.SettingMaxFrameSize: 4 << 20, http2.SettingMaxConcurrentStreams: 250}
	for window := false; len(want) > 0 || !window; {
		fr, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			for id, val := range want {
				if got, ok := fr.Value(id); ok && got == val {
					delete(want, id)
				} else if ok {
					t.Fatalf("%v is %d, want %d", id, got, val)
				}
			}
		case *http2.WindowUpdateFrame:
			if window = true; fr.StreamID != 0 || fr.Increment != 32<<20-65535 {
				t.Fatalf("window update %d for stream %d", fr.Increment, fr.StreamID)
			}
		}
	}
}

func TestNarrowedWindowIsAnnounced(t *testing.T) {
	near, far := net.Pipe()
	conn := New(far)
	conn.Narrow(5 * mib)
	ended := make(chan error, 1)
	go func() { ended <- conn.Serve(t.Context(), size, quiet) }()
	go func() { _, _ = io.WriteString(near, http2.ClientPreface) }()
	f := http2.NewFramer(io.Discard, near)
	settings, err := f.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := settings.(*http2.SettingsFrame).Value(http2.SettingInitialWindowSize); !ok || v != 5*mib {
		t.Errorf("%v", settings)
	}
	update, err := f.ReadFrame()
	if err != nil || update.(*http2.WindowUpdateFrame).Increment != 5*mib-65535 {
		t.Errorf("%v, %v", update, err)
	}
	_ = near.Close()
	<-ended
	if conn.Narrow(1 << 30); conn.window != 32*mib {
		t.Errorf("a window of %d bytes", conn.window)
	}
}
