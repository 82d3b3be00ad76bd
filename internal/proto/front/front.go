// Package front is what stands between a listening socket and net/http: it
// accepts what clients of a backup server really send.
//
// # What it does to a connection
//
//   - A first byte of 0x16 begins TLS, whose handshake is made here. Anything
//     else is taken for plain HTTP: the request is read and answered with a
//     redirection to https, and the connection is closed.
//   - The head of the first request on the connection gets a Host header if it
//     has none: one client upgrades without it, and net/http would refuse. Later
//     requests on the same connection pass as they are.
//
// Nothing else is changed. The bytes that follow the head are passed on as they
// come, so whatever is strange about a request is for net/http to refuse.
//
// All of it happens in the first Read, in the goroutine and under the deadlines of
// the server, so that accepting never waits for a client. To net/http the
// connection is a plain one; [Conn.TLS] tells what it really is.
//
// # Limits
//
// Up to 32 KiB are read in search of the end of the first head; a longer one
// passes unchanged and meets the server's own limit. The handshake has ten
// seconds, if the server sets no earlier deadline, the head of a plain request too.
package front

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/records"
)

const (
	maxHead   = 32 << 10
	patience  = 10 * time.Second
	handshake = 0x16 // type of the first record of TLS
)

// NewListener wraps a listener of TCP connections. conf has the certificate; it
// should offer no ALPN protocol but http/1.1.
func NewListener(l net.Listener, conf *tls.Config) net.Listener { return &listener{l, conf} }

type listener struct {
	net.Listener
	conf *tls.Config
}

// Accept returns a *Conn.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw := &peeked{Conn: c}
	return &Conn{Conn: records.Server(raw, l.conf), raw: raw}, nil
}

// Conn is a connection of a client.
type Conn struct {
	*records.Conn
	raw  *peeked
	once sync.Once
	err  error
	head bytes.Reader // what was read too far, and what was put in
}

// Read returns what the client sends, mended.
func (c *Conn) Read(p []byte) (int, error) {
	c.once.Do(func() { c.err = c.begin() })
	if c.head.Len() > 0 {
		return c.head.Read(p)
	}
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(p)
}

// TLS says how the connection is encrypted.
func (c *Conn) TLS() tls.ConnectionState { return c.ConnectionState() }

// begin makes the handshake and reads the first head.
func (c *Conn) begin() error {
	first, err := c.raw.peek()
	if err != nil {
		return err
	}
	stop := time.AfterFunc(patience, func() { _ = c.raw.SetDeadline(time.Unix(1, 0)) })
	if first != handshake {
		defer stop.Stop()
		return c.redirect()
	}
	err = c.Handshake()
	if !stop.Stop() && err == nil {
		err = errors.New("the TLS handshake took too long")
	}
	if err != nil {
		return err
	}
	head, err := readHead(c.Conn)
	c.head.Reset(mend(head))
	return err
}

// readHead reads until a blank line, or maxHead bytes, or an error. What came
// before an error is returned with it.
func readHead(r io.Reader) ([]byte, error) {
	b := make([]byte, 0, 4<<10)
	for len(b) < maxHead {
		if len(b) == cap(b) {
			b = append(b, make([]byte, len(b))...)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		from := max(0, len(b)-3)
		b = b[:len(b)+n]
		if err != nil || headEnd(b[from:]) {
			return b, err
		}
	}
	return b, nil
}

// headEnd reports a blank line behind a line.
func headEnd(b []byte) bool {
	return bytes.Contains(b, []byte("\n\n")) || bytes.Contains(b, []byte("\n\r\n"))
}

// peeked is a connection whose first byte can be looked at.
type peeked struct {
	net.Conn
	first byte
	has   bool // first is still to be read
}

func (c *peeked) peek() (byte, error) {
	var b [1]byte
	if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
		return 0, err
	}
	c.first, c.has = b[0], true
	return b[0], nil
}

func (c *peeked) Read(p []byte) (int, error) {
	if c.has && len(p) > 0 {
		c.has = false
		p[0] = c.first
		return 1, nil
	}
	return c.Conn.Read(p)
}
