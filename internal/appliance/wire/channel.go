package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// errEnded is written to by nobody's fault: the stream was over first.
var errEnded = errors.New("the stream has ended")

// errCancelled is what the guest reads from In after a cancel.
var errCancelled = errors.New("the request was cancelled")

// receiver is the reading end of a channel: a bounded buffer between the
// session's reader, which never waits, and whoever reads.
type receiver struct {
	s       *Stream
	channel Channel

	mu      sync.Mutex
	wake    sync.Cond // of mu
	buf     []byte    // at most Window
	used    int       // read and not yet given back
	ended   bool      // the other side sends no more
	err     error     // the session broke
	discard bool      // nobody reads any more
}

func (r *receiver) init(s *Stream, c Channel) {
	r.s, r.channel = s, c
	r.wake.L = &r.mu
}

// push takes a data frame's payload. False: the sender passed its window.
func (r *receiver) push(p []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return true // cancelled: what was on its way is forgotten
	}
	if r.ended || len(r.buf)+r.used+len(p) > Window {
		return false
	}
	if r.discard {
		r.used += len(p)
		return true
	}
	r.buf = append(r.buf, p...)
	r.wake.Signal()
	return true
}

// end marks the end: with nil after all data, with an error at once.
func (r *receiver) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	if r.err == nil {
		r.err = err
	}
	r.wake.Broadcast()
}

// drop forgets what came and what will come. The window is not given back: the
// session's reader must not wait for a write, so the sender waits instead until
// the stream ends.
func (r *receiver) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += len(r.buf)
	r.buf, r.discard = nil, true
	r.wake.Broadcast()
}

// Read gives what has come, waits when nothing has, and is io.EOF at the end.
func (r *receiver) Read(p []byte) (int, error) {
	r.mu.Lock()
	for len(r.buf) == 0 && !r.ended && !r.discard && len(p) > 0 {
		r.wake.Wait()
	}
	n := copy(p, r.buf)
	r.buf = r.buf[n:]
	if len(r.buf) == 0 {
		r.buf = nil // a channel at rest holds no memory
	}
	r.used += n
	give := 0
	if r.used >= Window/2 && !r.ended {
		give, r.used = r.used, 0
	}
	err := r.err
	done := n == 0 && len(p) > 0
	r.mu.Unlock()
	if give > 0 {
		r.s.session.giveBack(r.s.id, r.channel, give)
	}
	if done {
		if err == nil {
			err = io.EOF
		}
		return 0, err
	}
	return n, nil
}

// sender is the writing end of a channel.
type sender struct {
	s       *Stream
	channel Channel

	mu     sync.Mutex
	wake   sync.Cond // of mu
	credit int
	err    error // nothing more can be sent
}

func (w *sender) init(s *Stream, c Channel) {
	w.s, w.channel, w.credit = s, c, Window
	w.wake.L = &w.mu
}

// grant takes a window frame. False: more than was ever sent.
func (w *sender) grant(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.credit += n
	w.wake.Broadcast()
	return w.credit <= Window
}

func (w *sender) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.wake.Broadcast()
}

// take waits for credit and takes at most n of it.
func (w *sender) take(n int) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.credit == 0 && w.err == nil {
		w.wake.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	n = min(n, w.credit, MaxPayload)
	w.credit -= n
	return n, nil
}

// Write sends p in frames as the window allows.
func (w *sender) Write(p []byte) (n int, err error) {
	for n < len(p) {
		k, err := w.take(len(p) - n)
		if err != nil {
			return n, err
		}
		f := Frame{Stream: w.s.id, Kind: KindData, Channel: w.channel, Payload: p[n : n+k]}
		if err := w.s.session.send(f); err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// Close says that no more data comes.
func (w *sender) Close() error {
	w.mu.Lock()
	err := w.err
	if err == nil {
		w.err = errEnded
	}
	w.mu.Unlock()
	if err != nil {
		return nil //nolint:nilerr // ended already
	}
	return w.s.session.send(Frame{Stream: w.s.id, Kind: KindEnd, Channel: w.channel})
}

func windowPayload(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }
