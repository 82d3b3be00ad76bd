package h2

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// usual are windows that nothing in a test fills by chance.
var usual = Options{Frame: 1 << 20, Stream: 1 << 20, Window: 4 << 20, Ping: time.Minute}

// pipe returns the two ends of a TCP connection.
func pipe(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

// served is a connection to a server of net/http.
func served(t *testing.T, o Options, conf http.HTTP2Config, h http.HandlerFunc) *Conn {
	t.Helper()
	near, far := pipe(t)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: h, Protocols: &protocols, HTTP2: &conf}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(&one{conn: far, over: make(chan struct{})}) }()
	c := New(near, o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		_ = s.Close()
		<-done
	})
	return c
}

// one is a listener with one connection.
type one struct {
	conn net.Conn
	over chan struct{}
}

func (l *one) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.over
	return nil, net.ErrClosed
}

func (l *one) Close() error   { close(l.over); return nil }
func (l *one) Addr() net.Addr { return &net.TCPAddr{} }

// peer is a server that a test plays by hand.
type peer struct {
	*http2.Framer
	t    testing.TB
	conn net.Conn
	enc  *hpack.Encoder
	buf  bytes.Buffer
}

// played connects to a peer that has said hello and announced settings.
func played(t testing.TB, o Options, ss ...http2.Setting) (*Conn, *peer) {
	t.Helper()
	near, far := pipe(t)
	c := New(near, o)
	t.Cleanup(func() { _ = c.Close(); _ = far.Close() })
	p := &peer{Framer: http2.NewFramer(far, far), t: t, conn: far}
	p.enc = hpack.NewEncoder(&p.buf)
	p.AllowIllegalWrites = true
	p.SetMaxReadFrameSize(1 << 20)
	hello := make([]byte, len(preface))
	if _, err := io.ReadFull(far, hello); err != nil || string(hello) != preface {
		t.Fatalf("%q, %v", hello, err)
	}
	p.must(p.WriteSettings(ss...))
	return c, p
}

func (p *peer) must(err error) {
	if err != nil {
		p.t.Helper()
		p.t.Fatal(err)
	}
}

// await reads frames until one that fits.
func await[F http2.Frame](p *peer, fits func(F) bool) F {
	p.t.Helper()
	p.must(p.conn.SetReadDeadline(time.Now().Add(time.Minute)))
	for {
		f, err := p.ReadFrame()
		p.must(err)
		if got, ok := f.(F); ok && fits(got) {
			return got
		}
	}
}

func any1[F http2.Frame](F) bool { return true }

// head encodes header fields, by turns name and value.
func (p *peer) head(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.must(p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return bytes.Clone(p.buf.Bytes())
}

func (p *peer) answer(stream uint32, last bool, fields ...string) {
	p.t.Helper()
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: p.head(fields...), EndHeaders: true, EndStream: last}))
}

// result is what a call came to.
type result struct {
	status int
	body   string
	err    error
}

// call makes a call in the background.
func call(ctx context.Context, c *Conn, body []byte) chan result {
	done := make(chan result, 1)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://pbs/x?y=z", bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	go func() {
		resp, err := c.RoundTrip(r)
		if err != nil {
			done <- result{err: err}
			return
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		done <- result{resp.StatusCode, string(b), err}
	}()
	return done
}
