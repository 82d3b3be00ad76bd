package nbdserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/pagebuf"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// conn is one client.
type conn struct {
	s       *Server
	ctx     context.Context // ends when the connection is cut off
	cancel  context.CancelCauseFunc
	unwatch func() bool
	log     *slog.Logger
	since   time.Time
	mem     account

	raw net.Conn // below TLS
	in  input
	out output

	hand handshake
	exp  *export // nil until GO
	mode nbd.Mode
	head int // bytes of a READ's reply before the data

	// contexts are those that the client selected.
	contexts []selected

	jobs    chan job
	workers int // only the reader starts them
	wg      sync.WaitGroup
	failed  sync.Once // the first failure is logged louder
}

// selected is a metadata context with the number that the client knows.
type selected struct {
	id uint32
	Context
}

// job is a request that may wait, with its buffer.
type job struct {
	req nbd.Request
	buf *pagebuf.Buffer // for READ and WRITE with a length
	ids []uint32        // BLOCK_STATUS: only these contexts; nil: all
}

func newConn(ctx context.Context, s *Server, nc net.Conn) *conn {
	c := &conn{s: s, raw: nc, since: time.Now(), mem: newAccount(), jobs: make(chan job)}
	c.log = s.log.With("peer", peer(nc))
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.unwatch = context.AfterFunc(c.ctx, func() { _ = nc.Close() })
	c.in = input{nc: nc, buf: make([]byte, inputSize)}
	c.out = output{nc: nc, pool: s.pool, mem: &c.mem}
	c.out.room.L = &c.out.mu
	c.setMode(nbd.Simple)
	return c
}

func (c *conn) setMode(m nbd.Mode) {
	c.mode = m
	switch m {
	case nbd.Simple:
		c.head = nbd.SimpleReplySize
	default:
		c.head = nbd.ChunkHeaderSize(m) + 8
	}
}

// drain lets the connection end soon: what arrives within the grace is
// refused, then reading ends.
func (c *conn) drain() {
	c.in.draining.Store(true)
	_ = c.raw.SetReadDeadline(time.Now().Add(shutdownGrace))
}

// abort cuts the connection off.
func (c *conn) abort(cause error) { c.cancel(cause) }

// end closes the connection and forgets it.
func (c *conn) end() {
	c.unwatch()
	_ = c.in.nc.Close()
	c.cancel(net.ErrClosed)
	c.s.leave(c)
}

// report turns the end of a connection into ServeConn's answer.
func (c *conn) report(err error) error {
	attrs := []any{"elapsed", time.Since(c.since)}
	if c.exp != nil {
		attrs = append(attrs, "export", c.exp.Name)
	}
	switch {
	case c.ctx.Err() != nil:
		err = context.Cause(c.ctx)
	case c.in.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.EOF):
		err = nil
	case err != nil && c.exp == nil:
		err = fmt.Errorf("nbd handshake with %s: %w", peer(c.raw), err)
	case err != nil:
		err = fmt.Errorf("nbd client %s: %w", peer(c.raw), err)
	}
	if err != nil {
		c.log.Warn("nbd client dropped", append(attrs, "error", err)...)
		return err
	}
	c.log.Debug("nbd client left", attrs...)
	return nil
}

// errDisconnect is the client's wish to end.
var errDisconnect = io.EOF

// transmission answers requests until the client leaves.
func (c *conn) transmission() error {
	c.in.stall, c.out.stall = c.s.opts.StallTimeout, c.s.opts.StallTimeout
	_ = c.raw.SetWriteDeadline(time.Time{})
	c.in.deadline(time.Time{})
	c.exp.count.opened()
	defer c.exp.count.closed()
	c.log.Debug("nbd client connected", "export", c.exp.Name, "mode", c.mode)

	err := c.requests()
	close(c.jobs)
	c.wg.Wait()
	if ferr := c.out.flush(); ferr != nil {
		err = ferr
	}
	if c.in.draining.Load() {
		c.linger()
	}
	return err
}

// linger lets the last replies arrive: closing a socket with unread input
// would take them back.
func (c *conn) linger() {
	w, ok := c.in.nc.(interface{ CloseWrite() error })
	if !ok || w.CloseWrite() != nil {
		return
	}
	_ = c.in.nc.SetReadDeadline(time.Now().Add(shutdownGrace))
	for {
		if _, err := c.in.nc.Read(c.in.buf); err != nil {
			return
		}
	}
}

func (c *conn) requests() error {
	size := nbd.RequestHeaderSize(c.mode)
	for {
		if c.in.buffered() < size {
			if err := c.out.flush(); err != nil {
				return err
			}
			if err := c.in.need(size); err != nil {
				return err
			}
		}
		r, err := nbd.ParseRequest(c.in.take(size), c.mode)
		if err != nil {
			return err
		}
		if err := c.request(r); err != nil {
			return err
		}
	}
}

// request answers a request or gives it to a worker. An error ends the
// connection.
func (c *conn) request(r nbd.Request) error {
	if r.Type == nbd.CmdDisc {
		return errDisconnect
	}
	payload := r.Payload(c.mode)
	if payload > nbd.MaxPayload {
		return fmt.Errorf("%s with %d bytes, at most %d", r.Type, payload, nbd.MaxPayload)
	}
	err := c.check(r)
	if err == nil && c.in.draining.Load() {
		err = &nbd.Error{Errno: nbd.ESHUTDOWN, Text: "the server is shutting down"}
	}
	if err != nil {
		if err := c.in.discard(int64(payload)); err != nil {
			return err
		}
		c.exp.count.failed()
		return c.refuse(r, err)
	}
	switch r.Type {
	case nbd.CmdRead:
		if done, err := c.readInline(r); done || err != nil {
			return err
		}
		return c.submit(r, int(r.Length))
	case nbd.CmdWrite:
		return c.submit(r, int(r.Length))
	case nbd.CmdCache:
		return c.cache(r)
	case nbd.CmdBlockStatus:
		return c.submitStatus(r, payload)
	}
	return c.start(job{req: r})
}

// submit gives a READ or WRITE of n bytes to a worker, with memory for it and
// what is to be written.
func (c *conn) submit(r nbd.Request, n int) error {
	j := job{req: r}
	if err := c.out.flush(); err != nil { // memory may have to be waited for
		return err
	}
	if n > 0 {
		buf, err := c.s.pool.get(&c.mem, n, c.ctx.Done())
		if err != nil {
			if r.Type == nbd.CmdWrite {
				if err := c.in.discard(int64(n)); err != nil {
					return err
				}
			}
			return c.refuse(r, err)
		}
		if r.Type == nbd.CmdWrite {
			if err := c.in.read(buf.Bytes()[:n]); err != nil {
				c.s.pool.put(&c.mem, buf)
				return err
			}
		}
		j.buf = buf
	}
	return c.start(j)
}

// start hands a job over, and waits when all workers are busy.
func (c *conn) start(j job) error {
	select {
	case c.jobs <- j:
		return nil
	default:
	}
	if c.workers < c.s.opts.MaxRequests {
		c.workers++
		c.wg.Go(func() { c.work(j) })
		return nil
	}
	err := c.out.flush()
	c.jobs <- j // even then: the job's buffer is a worker's to free
	return err
}

// work executes jobs until there are no more.
func (c *conn) work(j job) {
	w := worker{conn: c}
	w.do(j)
	for j := range c.jobs {
		w.do(j)
	}
}

// refuse answers from the reader.
func (c *conn) refuse(r nbd.Request, err error) error {
	if err := c.out.reserve(64 + nbd.MaxString); err != nil {
		return err
	}
	c.out.inline = c.appendError(c.out.inline, r, err)
	return nil
}

// cache passes the hint on.
func (c *conn) cache(r nbd.Request) error {
	off := int64(r.Offset)
	if n := c.exp.clip(off, int64(r.Length)); n > 0 {
		willNeed(c.exp, off, n)
	}
	c.exp.count.caches.Add(1)
	if err := c.out.reserve(c.head); err != nil {
		return err
	}
	c.out.inline = c.appendDone(c.out.inline, r)
	return nil
}
