package front

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// start serves requests behind a front and tells what it saw of them.
func start(t *testing.T) string {
	t.Helper()
	made := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	defer made.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%s %s host=%s body=%s err=%v\n", r.Method, r.RequestURI, r.Host, b, err)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	conf := &tls.Config{Certificates: made.TLS.Certificates, NextProtos: []string{"http/1.1"}}
	done := make(chan error, 1)
	go func() { done <- s.Serve(NewListener(l, conf)) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

func dial(t *testing.T, addr string, secure bool) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err == nil && secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func TestRequestsOfRealClientsPass(t *testing.T) {
	addr := start(t)
	for _, tc := range []struct{ name, send, want string }{
		{
			"no host, as one client upgrades",
			"GET /api2/json/backup?store=a HTTP/1.1\r\nAuthorization: PBSAPIToken=x\r\nUpgrade: p\r\nConnection: Upgrade\r\n\r\n",
			"GET /api2/json/backup?store=a host=localhost body= err=<nil>",
		},
		{
			"doubled slash",
			"GET //api2/json/reader?store=a HTTP/1.1\r\nhost: pbs:8007\r\n\r\n",
			"GET //api2/json/reader?store=a host=pbs:8007 body= err=<nil>",
		},
		{
			"a body behind the head",
			"POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
			"POST /x host=localhost body=hello err=<nil>",
		},
		{
			"a long head",
			"GET /x HTTP/1.1\r\nCookie: " + strings.Repeat("c", 40<<10) + "\r\nHost: h\r\n\r\n",
			"GET /x host=h body= err=<nil>",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			conn := dial(t, addr, true)
			step := 1 // byte by byte is the worst case for whoever looks for an end
			if len(tc.send) > 1000 {
				step = len(tc.send)
			}
			for part := range slices.Chunk([]byte(tc.send), step) {
				if _, err := conn.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			if got := strings.TrimSpace(string(b)); resp.StatusCode != 200 || got != tc.want || err != nil {
				t.Fatalf("%s %q %v, want %q", resp.Status, got, err, tc.want)
			}
		})
	}
}

func TestConnectionServesRequestAfterRequest(t *testing.T) {
	conn := dial(t, start(t), true)
	r := bufio.NewReader(conn)
	for i, host := range []string{"", "Host: b\r\n", "Host: c\r\n"} {
		if _, err := fmt.Fprintf(conn, "POST /%d HTTP/1.1\r\n%sContent-Length: 3\r\n\r\nabc", i, host); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil || !strings.HasPrefix(string(b), fmt.Sprintf("POST /%d ", i)) || !strings.Contains(string(b), "body=abc") {
			t.Fatalf("request %d: %q, %v", i, b, err)
		}
	}
}

func TestPlainRequestIsSentToTLS(t *testing.T) {
	addr := start(t)
	for _, tc := range []struct {
		send   string
		status int
		where  string
	}{
		{"GET /x HTTP/1.1\r\nHost: pbs:8007\r\n\r\n", 301, "https://pbs:8007"},
		{"POST /x HTTP/1.1\r\nHost: pbs:8007\r\nContent-Length: 100\r\n\r\nsecret", 308, "https://pbs:8007"},
		{"GET /x HTTP/1.0\r\n\r\n", 400, ""},
		{"nonsense\r\n\r\n", 400, ""},
	} {
		conn := dial(t, addr, false)
		if _, err := io.WriteString(conn, tc.send); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", tc.send, err)
		}
		if resp.StatusCode != tc.status || resp.Header.Get("Location") != tc.where {
			t.Errorf("%q: %s to %q", tc.send, resp.Status, resp.Header.Get("Location"))
		}
	}
}

func TestEndlessHeadIsRefused(t *testing.T) {
	conn := dial(t, start(t), true)
	if _, err := io.WriteString(conn, "GET /x HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	line := []byte("X-" + strings.Repeat("a", 1000) + ": b\r\n")
	go func() {
		for range 3000 {
			if _, err := conn.Write(line); err != nil {
				return // the server has had enough
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatalf("%v, %v, want 431", resp, err)
	}
}

func FuzzMend(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\nA: b\n\nbody", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\nhost : h\r\n\r\n", "GET / HTTP/1.1\r\n Host: h\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET http://h/ HTTP/1.1\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out := mend(bytes.Clone(b))
		if len(out) > len(b)+len(hostLine) {
			t.Fatalf("%q became %q", b, out)
		}
		was, werr := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		now, nerr := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
		if werr != nil {
			return // whatever it was, net/http has the word
		}
		if nerr != nil {
			t.Fatalf("%q was a request, %q is none: %v", b, out, nerr)
		}
		if was.Method != now.Method || was.RequestURI != now.RequestURI || !reflect.DeepEqual(was.Header, now.Header) || was.ContentLength != now.ContentLength {
			t.Fatalf("%q became another request: %q", b, out)
		}
		if was.Host != "" && now.Host != was.Host {
			t.Fatalf("%q was for %q, is now for %q", b, was.Host, now.Host)
		}
		if was.Host == "" && now.Host == "" && was.ProtoAtLeast(1, 1) && was.ProtoMinor == 1 && !bytes.Contains(bytes.ToLower(b), []byte("host")) {
			t.Fatalf("%q still has no host: %q", b, out)
		}
	})
}
