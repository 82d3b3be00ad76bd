package h2

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// stream is one call.
type stream struct {
	c    *Conn
	req  *http.Request
	room func(*http.Response) []byte // where the beginning of the body goes; may be nil
	stop func() bool                 // no longer ends with the request's context

	// Under the connection's mu.
	id       uint32 // 0: not sent yet
	window   int64  // bytes to send
	unread   int    // bytes that have arrived and were not given back
	credit   int    // of them, to be given back
	sent     bool   // nothing more is sent
	complete bool   // all of the request was sent
	answered bool   // the peer has sent everything
	reset    bool   // the peer has given it up

	mu    sync.Mutex
	moved *sync.Cond
	err   error // the end, if it came too early
	whole bool  // the end, of a complete answer
	head  *http.Response
	rest  int64   // bytes of the body that are still to come; -1: not known
	parts []*part // what arrived before it was asked for
	want  []byte  // what a reader wants to have filled
	given int     // length of what room gave
}

// part is a piece of an answer that nobody has asked for yet.
type part struct {
	b    [16 << 10]byte
	r, w int
}

func newStream(c *Conn, req *http.Request, room func(*http.Response) []byte) *stream {
	s := &stream{c: c, req: req, room: room, rest: -1}
	s.moved = sync.NewCond(&s.mu)
	return s
}

func (s *stream) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil || s.whole
}

// finish ends the stream, once; nil says that the answer is complete.
func (s *stream) finish(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.whole {
		return
	}
	if why == nil && s.rest > 0 {
		why = io.ErrUnexpectedEOF
	}
	s.err, s.whole = why, why == nil
	s.moved.Broadcast()
}

// answer waits for the head of the answer, and for that of the body which goes
// where room said.
func (s *stream) answer() (resp *http.Response, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.err == nil && !s.whole && (s.head == nil || len(s.want) > 0) {
		s.moved.Wait()
	}
	missing := len(s.want)
	s.want = nil
	if s.err != nil && (s.head == nil || missing > 0) {
		s.stop()
		return nil, 0, s.err
	}
	return s.head, s.given - missing, nil
}

// early reports that the head of the answer is still to come.
func (s *stream) early() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head == nil
}

// begin hands the head of the answer over.
func (s *stream) begin(resp *http.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.rest = resp, resp.ContentLength
	if s.room != nil && s.err == nil { // somebody waits
		s.want = s.room(resp)
		s.given = len(s.want)
	}
	if len(s.want) == 0 {
		s.moved.Broadcast()
	}
}

// take gets bytes of the answer and returns how many of them nobody has to read
// any more.
func (s *stream) take(p []byte) (done int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.whole {
		return len(p), nil
	}
	if s.rest >= 0 {
		if int64(len(p)) > s.rest {
			return 0, errors.New("an answer is longer than announced")
		}
		s.rest -= int64(len(p))
	}
	if len(s.want) > 0 {
		done = copy(s.want, p)
		if s.want = s.want[done:]; len(s.want) == 0 {
			s.moved.Broadcast()
		}
		p = p[done:]
	}
	for len(p) > 0 {
		last := s.tail()
		n := copy(last.b[last.w:], p)
		last.w += n
		p = p[n:]
	}
	return done, nil
}

// tail returns a part that has room.
func (s *stream) tail() *part {
	if n := len(s.parts); n > 0 && s.parts[n-1].w < len(s.parts[n-1].b) {
		return s.parts[n-1]
	}
	p, ok := s.c.spare.Get().(*part)
	if !ok {
		p = new(part)
	}
	s.parts = append(s.parts, p)
	return p
}

// pull moves what has arrived to p, or nowhere if p is nil.
func (s *stream) pull(p []byte) (n int) {
	for len(s.parts) > 0 && (p == nil || n < len(p)) {
		first := s.parts[0]
		k := first.w - first.r
		if p != nil {
			k = copy(p[n:], first.b[first.r:first.w])
		}
		n += k
		if first.r += k; first.r == first.w {
			first.r, first.w = 0, 0
			s.c.spare.Put(first)
			s.parts = s.parts[1:]
		}
	}
	return n
}

// Read fills p as far as the answer goes.
func (s *stream) Read(p []byte) (filled int, err error) {
	for filled < len(p) && err == nil {
		var n int
		n, err = s.some(p[filled:])
		filled += n
	}
	if err != nil {
		s.stop()
	}
	if errors.Is(err, io.EOF) && filled > 0 {
		err = nil
	}
	return filled, err
}

// some fills p with what has arrived, or, if that is nothing, waits for all of it.
// What it took is given back before it waits again: the peer may wait for that.
func (s *stream) some(p []byte) (int, error) {
	s.mu.Lock()
	if s.err == nil {
		if n := s.pull(p); n > 0 {
			s.mu.Unlock()
			s.c.give(s, n)
			return n, nil
		}
	}
	defer s.mu.Unlock()
	s.want = p
	for len(s.want) > 0 && s.err == nil && !s.whole {
		s.moved.Wait()
	}
	n := len(p) - len(s.want)
	s.want = nil
	if s.err == nil && s.whole && n < len(p) {
		return n, io.EOF
	}
	return n, s.err
}

// Close gives up what was not read.
func (s *stream) Close() error {
	s.stop()
	s.c.cancel(s, errBody)
	s.mu.Lock()
	n := s.pull(nil)
	s.err = errBody
	s.mu.Unlock()
	s.c.give(s, n)
	return nil
}

var errBody = errors.New("read after the answer was closed")
