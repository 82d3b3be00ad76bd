package nbdclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

const (
	bufferSize  = 16 << 10
	maxInFlight = 64              // requests on a connection
	goodbye     = 5 * time.Second // for the last words
)

// conn is a connection in transmission. One goroutine reads it, ends all calls
// and is the only one to touch their buffers; callers write. A second one
// watches the time. Both end with the connection.
type conn struct {
	nc      net.Conn
	r       *bufio.Reader
	s       *session
	timeout time.Duration
	slots   chan struct{} // one in it for each call in flight
	gone    chan struct{} // closed when all calls have ended
	heard   atomic.Int64  // when bytes came last, nanoseconds since born
	born    time.Time
	wg      sync.WaitGroup
	scratch [4096]byte // of the reader

	wmu sync.Mutex // a request goes out in one piece
	out []byte

	mu    sync.Mutex
	calls map[uint64]*call
	next  uint64
	busy  time.Time // since when there are calls
	cause error     // why the connection ended
}

// newConn takes over the connection of a finished handshake. When ctx ends, so
// does the connection.
func newConn(ctx context.Context, h *shake, s *session, timeout time.Duration) *conn {
	c := &conn{
		nc: h.nc, s: s, timeout: timeout, born: time.Now(), calls: map[uint64]*call{},
		slots: make(chan struct{}, maxInFlight), gone: make(chan struct{}),
	}
	_ = c.nc.SetDeadline(time.Time{})
	c.r = h.r
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	c.wg.Go(func() {
		c.fail(c.readReplies())
		stop()
		c.endCalls()
	})
	c.wg.Go(c.watch)
	return c
}

// fail ends the connection; the first reason counts.
func (c *conn) fail(err error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = err
	}
	c.mu.Unlock()
	_ = c.nc.Close()
}

func (c *conn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// endCalls runs when nothing is read any more.
func (c *conn) endCalls() {
	c.mu.Lock()
	calls := c.calls
	c.calls = nil
	cause := c.cause
	c.mu.Unlock()
	for _, k := range calls {
		c.end(k, cause)
	}
	close(c.gone)
}

// end hands a call back to its owner.
func (c *conn) end(k *call, err error) {
	if err != nil {
		k.err = err
	}
	<-c.slots
	close(k.done)
}

// load is the number of calls in flight, below 0 when the connection ended.
func (c *conn) load() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return -1
	}
	return len(c.calls)
}

// start sends calls; each ends in its time. It waits while too many are in
// flight.
func (c *conn) start(calls []*call) {
	for len(calls) > 0 {
		n := c.reserve(len(calls))
		if n == 0 {
			cause := c.failure()
			for _, k := range calls {
				k.err = cause
				close(k.done)
			}
			return
		}
		c.send(calls[:n])
		calls = calls[n:]
	}
}

// reserve waits for one slot and takes as many as there are, at most most.
func (c *conn) reserve(most int) int {
	select {
	case c.slots <- struct{}{}:
	case <-c.gone:
		return 0
	}
	for n := 1; n < most; n++ {
		select {
		case c.slots <- struct{}{}:
		default:
			return n
		}
	}
	return most
}

// send registers calls that have slots and writes them.
func (c *conn) send(calls []*call) {
	c.mu.Lock()
	if c.calls == nil {
		cause := c.cause
		c.mu.Unlock()
		for _, k := range calls {
			c.end(k, cause)
		}
		return
	}
	now := time.Now()
	if len(c.calls) == 0 {
		c.busy = now
	}
	for _, k := range calls {
		c.next++
		k.cookie, k.since, k.size = c.next, now, c.s.size
		c.calls[k.cookie] = k
	}
	// A call may end, and its owner use it again, before it is written in full.
	requests, payloads := make([]nbd.Request, len(calls)), make([][]byte, len(calls))
	for i, k := range calls {
		requests[i] = nbd.Request{Type: k.cmd, Flags: k.flags, Cookie: k.cookie, Offset: uint64(k.off), Length: uint64(k.length)}
		if c.s.mode == nbd.Extended && k.cmd == nbd.CmdWrite {
			requests[i].Flags |= nbd.FlagPayloadLen
		}
		payloads[i] = k.src
	}
	c.mu.Unlock()
	if err := c.write(requests, payloads); err != nil {
		c.fail(&lostError{err})
	}
}

// write sends requests: headers without payload together.
func (c *conn) write(requests []nbd.Request, payloads [][]byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.out = c.out[:0]
	for i, r := range requests {
		c.out = r.Append(c.out, c.s.mode)
		if payloads[i] == nil {
			continue
		}
		parts := net.Buffers{c.out, payloads[i]}
		if _, err := parts.WriteTo(c.nc); err != nil {
			return err
		}
		c.out = c.out[:0]
	}
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	return err
}

// take finds the call of a reply; last takes it out.
func (c *conn) take(cookie uint64, last bool) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.calls[cookie]
	if k == nil {
		return nil, fmt.Errorf("%w: a reply with cookie %#x, which no request has", ErrProtocol, cookie)
	}
	if last {
		delete(c.calls, cookie)
	}
	return k, nil
}

// Read reads from the server and notes the time.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.nc.Read(p)
	if n > 0 {
		c.heard.Store(int64(time.Since(c.born)))
	}
	return n, err
}

// watch ends the connection when the server does not answer.
func (c *conn) watch() {
	t := time.NewTicker(max(c.timeout/8, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-c.gone:
			return
		case <-t.C:
			if what := c.late(time.Now()); what != "" {
				c.fail(&lostError{fmt.Errorf("%w: %s", ErrTimeout, what)})
			}
		}
	}
}

// late says what has lasted too long.
func (c *conn) late(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.calls) == 0 {
		return ""
	}
	heard := c.born.Add(time.Duration(c.heard.Load()))
	if heard.Before(c.busy) {
		heard = c.busy
	}
	if now.Sub(heard) > c.timeout {
		return fmt.Sprintf("%d requests wait and nothing came for %s", len(c.calls), c.timeout)
	}
	for _, k := range c.calls {
		if now.Sub(k.since) > ageFactor*c.timeout {
			return fmt.Sprintf("%s at offset %d takes longer than %s", k.cmd, k.off, ageFactor*c.timeout)
		}
	}
	return ""
}

// close says goodbye, ends the connection and waits for its goroutines.
func (c *conn) close() {
	if c.load() >= 0 {
		_ = c.nc.SetWriteDeadline(time.Now().Add(goodbye))
		_ = c.write([]nbd.Request{{Type: nbd.CmdDisc}}, [][]byte{nil}) // a courtesy
	}
	c.fail(errClosed)
	c.wg.Wait()
}

// lost makes what ended the reading a reason: a protocol error stays one.
func lost(err error) error {
	if errors.Is(err, ErrProtocol) {
		return err
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the server closed it (%w)", io.ErrUnexpectedEOF)
	}
	return &lostError{err}
}
