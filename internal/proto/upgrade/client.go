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

	"github.com/holdfast-backup/holdfast/internal/proto/h2"
)

// Client is the client's end of an upgraded connection. It is safe for
// concurrent use.
type Client struct {
	peer string
	h2   *h2.Conn
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
	return newClient(ctx, conn, peer)
}

func newClient(ctx context.Context, conn net.Conn, peer string) (*Client, error) {
	if ctx.Err() != nil {
		return nil, errors.Join(context.Cause(ctx), conn.Close())
	}
	return &Client{peer: peer, h2: h2.New(conn, h2.Options{
		Frame: 4 * mib, Stream: 16 * mib, Window: 128 * mib, Ping: time.Minute,
	})}, nil
}

// Peer is host and port of the server.
func (c *Client) Peer() string { return c.peer }

// Do sends a request, whose URL needs only path and query. The body of the
// answer must be closed.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	resp, _, err := c.Fetch(req, nil)
	return resp, err
}

// Fetch sends a request, and has the beginning of its answer's body put where room
// says; see h2.Conn.Fetch.
func (c *Client) Fetch(req *http.Request, room func(*http.Response) []byte) (resp *http.Response, n int, err error) {
	req.URL.Scheme, req.URL.Host, req.Host = "https", c.peer, c.peer // what it is, below
	if resp, n, err = c.h2.Fetch(req, room); err != nil {
		return nil, 0, c.explain(req.Context(), err)
	}
	resp.Body = &body{ReadCloser: resp.Body, c: c, ctx: req.Context()}
	return resp, n, nil
}

// Err returns a *LostError when the connection has ended.
func (c *Client) Err() error {
	if err := c.h2.Err(); err != nil {
		return &LostError{c.peer, err}
	}
	return nil
}

// Close ends the connection at once. Calls that wait fail.
func (c *Client) Close() error { return ignoreClosed(c.h2.Close()) }

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
