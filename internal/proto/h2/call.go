package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// RoundTrip makes a call and returns when the head of its answer is there. The
// body of the answer must be read to its end or closed. When the request's context
// ends, so does the call.
func (c *Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, _, err := c.Fetch(req, nil)
	return resp, err
}

// Fetch makes a call like RoundTrip, and has the beginning of the answer's body
// put where room says, which is asked when the head has arrived. It returns when
// n bytes are there: all that room gave, or all of the body. room is called by the
// goroutine that reads the connection, and must not wait; it may give nil. After
// an error nobody touches what it gave.
func (c *Conn) Fetch(req *http.Request, room func(*http.Response) []byte) (resp *http.Response, n int, err error) {
	ctx := req.Context()
	if req.Body == http.NoBody {
		req.Body = nil
	}
	if req.Body != nil && req.ContentLength <= 0 {
		return nil, 0, errors.Join(errors.New("a request with a body of unknown length"), req.Body.Close())
	}
	s := newStream(c, req, room)
	c.mu.Lock()
	if err = ctx.Err(); err == nil {
		err = c.over()
	}
	if err == nil {
		c.runs.Go(func() { c.send(s, req) })
	}
	c.mu.Unlock()
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, 0, err
	}
	s.stop = context.AfterFunc(ctx, func() { c.cancel(s, ctx.Err()) })
	return s.answer()
}

// over returns why there can be no more calls. The caller holds mu.
func (c *Conn) over() error {
	if c.err != nil {
		return c.err
	}
	return c.leaving
}

// send makes the request.
func (c *Conn) send(s *stream, req *http.Request) {
	err := c.open(s, req)
	if req.Body != nil {
		if err == nil {
			err = c.sendBody(s, req)
		}
		_ = req.Body.Close()
	}
	if err != nil {
		s.finish(err)
	}
	c.mu.Lock()
	s.sent = true
	c.mu.Unlock()
	c.retire(s)
}

// open waits until there may be one more stream, and sends the head. After the end
// of the stream it does nothing.
func (c *Conn) open(s *stream, req *http.Request) error {
	c.mu.Lock()
	for c.over() == nil && !s.over() && len(c.streams)+c.opening >= int(c.most) {
		c.moved.Wait()
	}
	if err := c.over(); err != nil || s.over() {
		c.mu.Unlock()
		return err
	}
	c.opening++
	c.mu.Unlock()

	c.write.Lock() // numbers go up in the order of heads
	defer c.write.Unlock()
	frame, err := c.number(s)
	if err != nil || s.id == 0 {
		return err
	}
	flags := byte(0)
	if req.Body == nil {
		flags = flagEndStream
	}
	var out []byte
	fields := c.fields(req)
	for kind := byte(frameHeaders); ; kind, flags = frameContinuation, 0 {
		part := fields[:min(len(fields), frame)]
		if fields = fields[len(part):]; len(fields) == 0 {
			flags |= flagEndHeaders
		}
		out = appendFrame(out, kind, flags, s.id, part)
		if len(fields) == 0 {
			break
		}
	}
	if err := c.put(out); err != nil {
		return err
	}
	if req.Body == nil {
		c.ended(s)
	}
	return nil
}

// number gives a stream its number and place, and returns how large frames may be.
func (c *Conn) number(s *stream) (frame int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening--
	if err := c.over(); err != nil {
		return 0, err
	}
	if s.over() {
		c.moved.Broadcast() // its place is free
		return 0, nil
	}
	if c.next > streamMax {
		return 0, errors.New("too many calls on one connection")
	}
	s.id, s.window = c.next, c.initial
	c.next += 2
	c.streams[s.id] = s
	return c.frame, nil
}

// ended says that the request is complete.
func (c *Conn) ended(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.complete = true
}

// put writes frames. The caller holds write.
func (c *Conn) put(frames []byte) error {
	_, err := c.conn.Write(frames)
	if err != nil {
		_ = c.end(err)
	}
	return err
}

// fields encodes the head of a request, valid until the next one. The caller holds
// write, and sends it: the peer's table follows.
func (c *Conn) fields(req *http.Request) []byte {
	c.mu.Lock()
	most := c.tableMax
	c.mu.Unlock()
	if most != c.table {
		c.table = most
		c.enc.SetMaxDynamicTableSize(most)
	}
	c.block.Reset()
	add := func(name, value string) {
		_ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // a buffer takes all
	}
	add(":authority", req.Host)
	add(":method", req.Method)
	add(":path", req.URL.RequestURI())
	add(":scheme", req.URL.Scheme)
	if req.Body != nil {
		add("content-length", strconv.FormatInt(req.ContentLength, 10))
	}
	for name, values := range req.Header {
		for _, v := range values {
			add(strings.ToLower(name), v)
		}
	}
	return c.block.Bytes()
}

// sendBody sends the body, unless the stream ends meanwhile.
func (c *Conn) sendBody(s *stream, req *http.Request) error {
	long := req.ContentLength > small
	if long {
		c.turn.Lock()
		defer c.turn.Unlock()
	}
	for rest := req.ContentLength; rest > 0; {
		n, err := c.reserve(s, rest, long)
		if n == 0 {
			return err
		}
		if err := c.sendPiece(s, req.Body, n, rest == int64(n)); err != nil {
			return err
		}
		rest -= int64(n)
	}
	c.ended(s)
	return nil
}

// reserve takes up to most bytes of the windows; 0 when the stream has ended. A
// peer that does not read this body does not keep the turn from others.
func (c *Conn) reserve(s *stream, most int64, long bool) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && !s.over() && (c.window <= 0 || s.window <= 0) {
		yield := long && s.window <= 0
		if yield {
			c.turn.Unlock()
		}
		c.moved.Wait()
		if yield {
			c.mu.Unlock()
			c.turn.Lock()
			c.mu.Lock()
		}
	}
	if c.err != nil || s.over() {
		return 0, c.err
	}
	n := min(most, c.window, s.window, int64(c.frame), piece)
	c.window -= n
	s.window -= n
	return int(n), nil
}

func (c *Conn) sendPiece(s *stream, body io.Reader, n int, last bool) error {
	c.write.Lock()
	defer c.write.Unlock()
	frame := c.out[:headerSize+n]
	if _, err := io.ReadFull(body, frame[headerSize:]); err != nil {
		c.mu.Lock()
		c.window += int64(n)
		c.moved.Broadcast()
		c.mu.Unlock()
		return fmt.Errorf("read what is to be sent: %w", err)
	}
	h := header{length: n, kind: frameData, stream: s.id}
	if last {
		h.flags = flagEndStream
	}
	h.put(frame)
	return c.put(frame)
}

// cancel ends a stream from this side.
func (c *Conn) cancel(s *stream, why error) {
	s.finish(why)
	c.retire(s)
}

// retire takes a stream off the table when both sides are done with it, or one of
// them has given it up. The peer hears of it if it does not know.
func (c *Conn) retire(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved.Broadcast() // who sends on it may be waiting
	if !s.over() || !s.sent || c.streams[s.id] != s {
		return
	}
	delete(c.streams, s.id)
	if !s.reset && !(s.answered && s.complete) {
		c.queue(appendNumber(nil, frameReset, s.id, uint32(codeCancel)))
	}
}
