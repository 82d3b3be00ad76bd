// Package records is crypto/tls with fewer system calls: what a long Write makes
// of records goes to the system together, where crypto/tls makes a call, and wakes up the
// reader, for each 16 KiB.
//
// A write of at most one record, and all that TLS sends on its own account, goes
// as it would without. Behind a long write nothing is left waiting: it returns
// when everything is with the system. When that fails, the error is that of every
// later write.
//
// # Memory
//
// 128 KiB for each connection that has made a long write.
package records

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

const (
	record = 16 << 10  // the longest
	batch  = 128 << 10 // bytes of records that go together
)

// Conn is a TLS connection. Its Write and Close are not those of crypto/tls.
type Conn struct {
	*tls.Conn
	raw  *held
	busy atomic.Int32 // long writes
}

// Client is the client's end of a connection.
func Client(conn net.Conn, conf *tls.Config) *Conn {
	raw := &held{Conn: conn}
	return &Conn{Conn: tls.Client(raw, conf), raw: raw}
}

// Server is the server's end.
func Server(conn net.Conn, conf *tls.Config) *Conn {
	raw := &held{Conn: conn}
	return &Conn{Conn: tls.Server(raw, conf), raw: raw}
}

// Write sends p.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) <= record {
		return c.Conn.Write(p)
	}
	c.busy.Add(1)
	defer c.busy.Add(-1)
	c.raw.hold()
	n, err := c.Conn.Write(p)
	if ferr := c.raw.release(); err == nil && ferr != nil {
		return 0, ferr // how much has arrived is not known
	}
	return n, err
}

// Close closes the connection. While a write hangs there is no farewell.
func (c *Conn) Close() error {
	if c.busy.Load() > 0 {
		return c.raw.Close()
	}
	return c.Conn.Close()
}

// held is the connection below TLS. During long writes it collects what is
// written.
type held struct {
	net.Conn

	mu   sync.Mutex
	long int // writes
	buf  []byte
	err  error // why nothing can be written any more
}

func (h *held) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.long++
}

// release sends what was collected.
func (h *held) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.long--
	return h.flush()
}

// Write implements net.Conn.
func (h *held) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.long == 0 || len(h.buf)+len(p) > batch {
		if err := h.flush(); err != nil {
			return 0, err
		}
	}
	if h.long == 0 || len(p) > batch {
		return h.Conn.Write(p)
	}
	if h.buf == nil {
		h.buf = make([]byte, 0, batch)
	}
	h.buf = append(h.buf, p...)
	return len(p), nil
}

// flush sends what was collected. The caller holds mu.
func (h *held) flush() error {
	if h.err == nil && len(h.buf) > 0 {
		_, h.err = h.Conn.Write(h.buf)
		h.buf = h.buf[:0]
	}
	return h.err
}
