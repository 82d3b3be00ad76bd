package upgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Client is the client's end of an upgraded connection. It is safe for
// concurrent use.
type Client struct {
	wire *wire
	peer string
	h2   *http.ClientConn
}

// LostError says that the connection has ended, and what it takes with it.
type LostError struct {
	Peer string
	Err  error // why
}

func (e *LostError) Error() string {
	if errors.Is(e.Err, io.EOF) || errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("the connection to %s is lost: the server closed it", e.Peer)
	}
	return fmt.Sprintf("the connection to %s is lost: %v", e.Peer, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

var errClosed = errors.New("it was closed here")

// Open sends req on conn, asking for protocol, and speaks HTTP/2 on it when the
// server agrees. Another answer is returned as it is, with a body that is read
// from the connection and closes it; then there is no client. After an error the
// connection is closed. ctx bounds the exchange alone.
func Open(ctx context.Context, conn net.Conn, req *http.Request, protocol string) (*Client, *http.Response, error) {
	w := &wire{Conn: conn}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	resp, early, err := ask(conn, req, protocol)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	peer := req.URL.Host
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, errors.Join(fmt.Errorf("open a session on %s: %w", peer, err), conn.Close())
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = closeBoth{resp.Body, conn}
		return nil, resp, nil
	}
	if got := resp.Header.Get("Upgrade"); got != protocol {
		return nil, nil, errors.Join(fmt.Errorf("open a session on %s: it switches to %q, asked was %q", peer, got, protocol), conn.Close())
	}
	w.first = early
	c, err := newClient(ctx, w, peer)
	return c, nil, err
}

// ask makes the exchange in HTTP/1. What the server sent behind its answer stays
// in the reader.
func ask(conn net.Conn, req *http.Request, protocol string) (*http.Response, io.Reader, error) {
	req.Header.Set("Connection", "upgrade")
	req.Header.Set("Upgrade", protocol)
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(io.LimitReader(conn, maxHead))
	resp, err := http.ReadResponse(r, req)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errors.New("the server closed the connection")
	}
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, nil, err
	}
	return resp, io.LimitReader(r, int64(r.Buffered())), nil
}

// maxHead bounds what is read of a server that does not upgrade.
const maxHead = 1 << 20

// NewClient speaks HTTP/2 on a connection from the start.
func NewClient(ctx context.Context, conn net.Conn, peer string) (*Client, error) {
	return newClient(ctx, &wire{Conn: conn}, peer)
}

func newClient(ctx context.Context, w *wire, peer string) (*Client, error) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	used := false
	t := &http.Transport{
		Protocols: &protocols,
		HTTP2: &http.HTTP2Config{
			StrictMaxConcurrentRequests:   true,
			MaxReadFrameSize:              4 * mib,
			MaxReceiveBufferPerConnection: 128 * mib,
			MaxReceiveBufferPerStream:     16 * mib,
			SendPingTimeout:               time.Minute,
			PingTimeout:                   time.Minute,
		},
		DisableCompression: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, errors.New("a session has one connection")
			}
			used = true
			return w, nil
		},
	}
	h2, err := t.NewClientConn(ctx, "http", "session:80")
	if err != nil {
		if ended := w.ended(); ended != nil {
			err = &LostError{peer, ended}
		} else {
			err = fmt.Errorf("speak HTTP/2 with %s: %w", peer, err)
		}
		return nil, errors.Join(err, ignoreClosed(w.Close()))
	}
	return &Client{wire: w, peer: peer, h2: h2}, nil
}

// Peer is host and port of the server.
func (c *Client) Peer() string { return c.peer }

// Do sends a request, whose URL needs only path and query. The body of the
// answer must be closed.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	req.URL.Scheme, req.URL.Host, req.Host = "https", c.peer, c.peer // what it is, below
	resp, err := c.h2.RoundTrip(req)
	if err != nil {
		return nil, c.explain(req.Context(), err)
	}
	resp.Body = &body{ReadCloser: resp.Body, c: c, ctx: req.Context()}
	return resp, nil
}

// Err returns a *LostError when the connection has ended.
func (c *Client) Err() error {
	if err := c.wire.ended(); err != nil {
		return &LostError{c.peer, err}
	}
	if err := c.h2.Err(); err != nil {
		return &LostError{c.peer, errClosed}
	}
	return nil
}

// Close ends the connection at once. Calls that wait fail.
func (c *Client) Close() error { return errors.Join(c.h2.Close(), ignoreClosed(c.wire.Close())) }

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// explain finds the reason behind an error of net/http: the caller's context
// first, then the end of the connection.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if lost := c.Err(); lost != nil {
		return lost
	}
	return fmt.Errorf("server %s: %w", c.peer, err)
}

// body explains the errors of an answer's body.
type body struct {
	io.ReadCloser
	c   *Client
	ctx context.Context
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.c.explain(b.ctx, err)
	}
	return n, err
}

// closeBoth is the body of a refusal, and the connection it comes from.
type closeBoth struct {
	io.ReadCloser
	conn net.Conn
}

func (b closeBoth) Close() error {
	return errors.Join(b.ReadCloser.Close(), b.conn.Close())
}
