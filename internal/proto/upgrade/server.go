package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// ErrNotUpgrade is wrapped when a request does not ask for the protocol.
var ErrNotUpgrade = errors.New("not a request to upgrade")

// Check reports why a request cannot be upgraded to protocol, which is the
// client's fault.
func Check(r *http.Request, protocol string) error {
	switch {
	case r.ProtoMajor != 1:
		return fmt.Errorf("%w: HTTP version is %s, want 1.1", ErrNotUpgrade, r.Proto)
	case r.Header.Get("Upgrade") == "":
		return fmt.Errorf("%w: no 'upgrade' header", ErrNotUpgrade)
	case r.Header.Get("Upgrade") != protocol:
		return fmt.Errorf("%w: invalid protocol name %q, want %q", ErrNotUpgrade, r.Header.Get("Upgrade"), protocol)
	}
	return nil
}

// Conn is an upgraded connection of a server.
type Conn struct {
	wire   *wire
	peer   string
	window int // bytes that the client may send before they are read
}

// maxWindow is what the existing server announces.
const maxWindow = 32 * mib

// Narrow announces a window of n bytes, of at most 32 MiB. It is called before
// Serve.
func (c *Conn) Narrow(n int) { c.window = min(n, maxWindow) }

// Accept answers a request that has passed [Check] with 101 and takes the
// connection over. From then on it belongs to the caller, who calls Serve.
func Accept(w http.ResponseWriter, protocol string) (*Conn, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	c := &Conn{peer: conn.RemoteAddr().String(), wire: newWire(conn), window: maxWindow}
	if n := buf.Reader.Buffered(); n > 0 { // a fast client's preface
		early, err := buf.Peek(n)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("take the connection over: %w", err), conn.Close())
		}
		c.wire.first = strings.NewReader(string(early))
	}
	const patience = 30 * time.Second
	err = conn.SetDeadline(time.Now().Add(patience))
	if err == nil {
		_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: "+protocol+"\r\n\r\n")
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("answer the upgrade of %s: %w", c.peer, err), conn.Close())
	}
	return c, nil
}

// New makes a Conn of any connection on which the client speaks HTTP/2 from the
// start.
func New(conn net.Conn) *Conn {
	return &Conn{peer: conn.RemoteAddr().String(), wire: newWire(conn), window: maxWindow}
}

// Peer is the client's address.
func (c *Conn) Peer() string { return c.peer }

// Close ends a connection that is not, or no longer, to be served.
func (c *Conn) Close() error { return c.wire.Close() }

// Serve answers the requests on the connection with h until it ends: by the
// client, which is no error, by a failure, or because ctx ends, whose cause it
// returns then. The context of requests descends from ctx. No call of h runs
// when it returns. log hears of what goes wrong in between.
func (c *Conn) Serve(ctx context.Context, h http.Handler, log *slog.Logger) error {
	gate := newGate()
	once := &oneConn{conn: c.wire, over: make(chan struct{})}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if gate.enter() {
				defer gate.leave()
				h.ServeHTTP(w, r)
			}
		}),
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          250,
			MaxReadFrameSize:              4 * mib,
			MaxReceiveBufferPerConnection: c.window,
			MaxReceiveBufferPerStream:     c.window,
		},
		MaxHeaderBytes: 64 << 10,
		BaseContext:    func(net.Listener) context.Context { return ctx },
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				once.end()
			}
		},
	}
	stop := context.AfterFunc(ctx, func() { _ = c.wire.Close() })
	defer stop()
	_ = srv.Serve(once) // ends with the listener, which ends with the connection
	_ = c.wire.Close()
	gate.close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := c.wire.ended(); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("connection to %s: %w", c.peer, err)
	}
	return nil
}

// gate counts the calls of a handler and waits for them in the end. net/http
// may start one when the connection is gone already.
type gate struct {
	mu      sync.Mutex
	changed *sync.Cond
	inside  int
	closed  bool
}

func newGate() *gate {
	g := new(gate)
	g.changed = sync.NewCond(&g.mu)
	return g
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.changed.Broadcast()
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.inside > 0 {
		g.changed.Wait()
	}
}

// oneConn is a listener that has one connection to give, and waits for its end
// when it is asked for another.
type oneConn struct {
	mu   sync.Mutex
	conn net.Conn
	over chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	c := l.conn
	l.conn = nil
	l.mu.Unlock()
	if c != nil {
		return c, nil
	}
	<-l.over
	return nil, net.ErrClosed
}

func (l *oneConn) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.over:
	default:
		close(l.over)
	}
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
