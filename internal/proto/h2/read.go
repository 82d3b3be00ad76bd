package h2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"golang.org/x/net/http2/hpack"
)

// read reads frames until the end.
func (c *Conn) read() {
	err := c.frames()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // not the end of an answer
	}
	_ = c.end(err)
}

// broken is what a peer does that is not HTTP/2.
func broken(format string, args ...any) error {
	return fmt.Errorf("it does not keep to HTTP/2: "+format, args...)
}

func (c *Conn) frames() error {
	for first := true; ; first = false {
		b, err := c.in.Peek(headerSize)
		if err != nil {
			return err
		}
		h := parseHeader(b)
		_, _ = c.in.Discard(headerSize) // it is there
		switch {
		case h.length > c.opt.Frame:
			return broken("a frame of %d bytes, allowed are %d", h.length, c.opt.Frame)
		case first && (h.kind != frameSettings || h.flags&flagAck != 0):
			return broken("it begins with a frame of type %d", h.kind)
		}
		c.heard()
		if h.kind == frameData {
			err = c.data(h)
		} else {
			err = c.other(h)
		}
		if err != nil {
			return err
		}
	}
}

// heard notes that the peer is there.
func (c *Conn) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.asked = false
		c.idle.Reset(c.opt.Ping)
	}
}

// find returns the stream of a frame; nil when it has ended here, which the peer
// may not know.
func (c *Conn) find(h header) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream%2 == 0 || h.stream >= c.next {
		return nil, broken("a frame of type %d for call %d, which was never made", h.kind, h.stream)
	}
	return c.streams[h.stream], nil
}

// data passes on a piece of an answer.
func (c *Conn) data(h header) error {
	s, err := c.find(h)
	if err != nil {
		return err
	}
	if err := c.arrived(s, h.length); err != nil {
		return err
	}
	if s != nil && s.early() {
		return broken("an answer without a head")
	}
	pad, rest := 0, h.length
	if h.flags&flagPadded != 0 && rest > 0 {
		b, err := c.in.ReadByte()
		if err != nil {
			return err
		}
		pad, rest = int(b), rest-1
	}
	if pad > rest || h.flags&flagPadded != 0 && h.length == 0 {
		return broken("more padding than frame")
	}
	unread := 0
	for rest -= pad; rest > 0; {
		if c.in.Buffered() == 0 {
			if _, err := c.in.Peek(1); err != nil {
				return err
			}
		}
		p, _ := c.in.Peek(min(rest, c.in.Buffered())) // is there
		n := len(p)
		if s != nil {
			done, err := s.take(p)
			if err != nil {
				return broken("%w", err)
			}
			n = done
		}
		unread += len(p) - n
		_, _ = c.in.Discard(len(p))
		rest -= len(p)
	}
	if _, err := c.in.Discard(pad); err != nil {
		return err
	}
	c.give(s, h.length-unread)
	if h.flags&flagEndStream != 0 && s != nil {
		c.answered(s)
	}
	return nil
}

// arrived counts bytes against the windows; give, those that need no room any
// more.
func (c *Conn) arrived(s *stream, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unread += n
	if s != nil {
		s.unread += n
	}
	if c.unread > c.opt.Window || s != nil && s.unread > c.opt.Stream {
		return broken("more bytes than their window holds")
	}
	return nil
}

// The peer gets its windows back a quarter at a time.
func (c *Conn) give(s *stream, n int) {
	if n == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.credit += n; c.credit >= c.opt.Window/4 {
		c.queue(appendNumber(nil, frameWindowUpdate, 0, uint32(c.credit)))
		c.unread, c.credit = c.unread-c.credit, 0
	}
	if s == nil || s.answered || c.streams[s.id] != s {
		return
	}
	if s.credit += n; s.credit >= c.opt.Stream/4 {
		c.queue(appendNumber(nil, frameWindowUpdate, s.id, uint32(s.credit)))
		s.unread, s.credit = s.unread-s.credit, 0
	}
}

// answered ends a stream of which the peer has sent everything.
func (c *Conn) answered(s *stream) {
	c.mu.Lock()
	s.answered = true
	c.mu.Unlock()
	s.finish(nil)
	c.retire(s)
}

// payload reads a frame that is not data.
func (c *Conn) payload(h header) ([]byte, error) {
	if h.length > maxFields {
		return nil, broken("a frame of type %d with %d bytes", h.kind, h.length)
	}
	b := make([]byte, h.length)
	_, err := io.ReadFull(c.in, b)
	return b, err
}

// other obeys a frame that is not data.
func (c *Conn) other(h header) error {
	b, err := c.payload(h)
	if err != nil {
		return err
	}
	switch h.kind {
	case frameHeaders:
		return c.headers(h, b)
	case frameReset:
		return c.wasReset(h, b)
	case frameSettings:
		return c.settings(h, b)
	case framePing:
		if h.stream != 0 || len(b) != pingSize {
			return broken("a ping of %d bytes for call %d", len(b), h.stream)
		}
		if h.flags&flagAck != 0 {
			return nil
		}
		return c.reply(appendFrame(nil, framePing, flagAck, 0, b))
	case frameGoAway:
		return c.goAway(b)
	case frameWindowUpdate:
		return c.windowUpdate(h, b)
	case framePush, frameContinuation:
		return broken("a frame of type %d", h.kind)
	}
	return nil // unknown ones have no meaning
}

// reply queues an answer to a frame.
func (c *Conn) reply(frame []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.control) > maxControl {
		return broken("it asks and asks, and does not read the answers")
	}
	c.queue(frame)
	return nil
}

// headers begins an answer, or ends it.
func (c *Conn) headers(h header, b []byte) error {
	s, err := c.find(h)
	if err != nil {
		return err
	}
	pad, skip := 0, 0
	if h.flags&flagPadded != 0 && len(b) > 0 {
		pad, skip = int(b[0]), 1
	}
	if h.flags&flagPriority != 0 {
		skip += 5
	}
	if skip+pad > len(b) {
		return broken("more padding than frame")
	}
	block := b[skip : len(b)-pad]
	for more := h; more.flags&flagEndHeaders == 0; {
		if more, b, err = c.continuation(h.stream); err != nil {
			return err
		}
		if block = append(block, b...); len(block) > maxFields || len(b) == 0 {
			return broken("a head without end")
		}
	}
	fields, err := c.decode(block)
	if err != nil || s == nil {
		return err
	}
	return c.begin(s, fields, h.flags&flagEndStream != 0)
}

func (c *Conn) continuation(stream uint32) (header, []byte, error) {
	b, err := c.in.Peek(headerSize)
	if err != nil {
		return header{}, nil, err
	}
	h := parseHeader(b)
	_, _ = c.in.Discard(headerSize)
	if h.kind != frameContinuation || h.stream != stream {
		return h, nil, broken("a frame of type %d in the middle of a head", h.kind)
	}
	b, err = c.payload(h)
	return h, b, err
}

// decode decodes header fields, which may take more room than their block.
func (c *Conn) decode(block []byte) (fields []hpack.HeaderField, err error) {
	size := uint32(0)
	c.dec.SetEmitEnabled(true)
	c.dec.SetEmitFunc(func(f hpack.HeaderField) {
		if size += f.Size(); size > maxFields {
			c.dec.SetEmitEnabled(false)
			return
		}
		fields = append(fields, f)
	})
	_, err = c.dec.Write(block)
	if err == nil {
		err = c.dec.Close()
	}
	switch {
	case err != nil:
		return nil, broken("%w", err)
	case size > maxFields:
		return nil, broken("a head of more than %d bytes", maxFields)
	}
	return fields, nil
}

// begin makes the head of an answer.
func (c *Conn) begin(s *stream, fields []hpack.HeaderField, last bool) error {
	if !s.early() {
		if !last {
			return broken("a second head")
		}
		c.answered(s)
		return nil
	}
	resp := &http.Response{Proto: "HTTP/2.0", ProtoMajor: 2, Header: http.Header{}, ContentLength: -1, Body: s, Request: s.req}
	for _, f := range fields {
		switch {
		case f.Name == ":status":
			n, err := strconv.ParseUint(f.Value, 10, 10)
			if err != nil || len(f.Value) != 3 {
				return broken("status %q", f.Value)
			}
			resp.StatusCode, resp.Status = int(n), f.Value+" "+http.StatusText(int(n))
		case f.IsPseudo():
			return broken("an answer with %s", f.Name)
		default:
			resp.Header.Add(f.Name, f.Value)
		}
	}
	switch code := resp.StatusCode; {
	case code == http.StatusSwitchingProtocols || code < 100 || code < 200 && last:
		return broken("an answer with status %q", resp.Status)
	case code < 200:
		return nil // the answer is still to come
	}
	if v, ok := resp.Header["Content-Length"]; ok {
		n, err := strconv.ParseInt(v[0], 10, 64)
		if err != nil || n < 0 || slices.ContainsFunc(v, func(o string) bool { return o != v[0] }) {
			return broken("content length %q", v)
		}
		resp.ContentLength = n
	} else if last {
		resp.ContentLength = 0
	}
	s.begin(resp)
	if last {
		c.answered(s)
	}
	return nil
}

// wasReset ends a stream that the peer has given up.
func (c *Conn) wasReset(h header, b []byte) error {
	s, err := c.find(h)
	if err != nil {
		return err
	}
	if len(b) != 4 {
		return broken("a reset of %d bytes", len(b))
	}
	if s == nil {
		return nil
	}
	c.mu.Lock()
	s.reset = true
	c.mu.Unlock()
	s.finish(fmt.Errorf("the call was given up by the server: %s", code(binary.BigEndian.Uint32(b))))
	c.retire(s)
	return nil
}

// silent asks whether the peer is there, or gives it up.
func (c *Conn) silent() {
	c.mu.Lock()
	again := c.asked
	if !again {
		c.asked = true
		c.idle.Reset(c.opt.Ping)
		c.queue(appendFrame(nil, framePing, 0, 0, make([]byte, pingSize)))
	}
	c.mu.Unlock()
	if again {
		_ = c.end(fmt.Errorf("no sign of life for %s", (2 * c.opt.Ping).Round(time.Second)))
	}
}
