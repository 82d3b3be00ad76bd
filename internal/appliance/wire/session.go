package wire

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Session runs the protocol on one byte stream: [Dial] on the host, [Serve] in
// the guest.
type Session struct {
	rw    io.ReadWriteCloser
	guest bool

	wmu   sync.Mutex
	wbuf  []byte // guarded by wmu; one frame is one Write
	serve func(*Stream)
	work  sync.WaitGroup // of the guest's running requests

	mu      sync.Mutex
	streams map[uint32]*Stream
	last    uint32 // the newest stream's number
	err     error  // why the session ended

	hello chan Hello    // one value
	done  chan struct{} // closed at the end
}

// Stream is one request and its answer.
type Stream struct {
	Request Request

	session *Session
	id      uint32
	in      [channels]receiver
	out     [channels]sender
	cancel  context.CancelFunc
	ctx     context.Context //nolint:containedctx // the guest's work on this stream ends with it
	result  chan Result     // one value, on the host
}

func newSession(rw io.ReadWriteCloser) *Session {
	return &Session{
		rw: rw, streams: map[uint32]*Stream{},
		hello: make(chan Hello, 1), done: make(chan struct{}),
	}
}

// Dial starts the host's side. The session ends when rw does or with [Session.Close].
func Dial(rw io.ReadWriteCloser) *Session {
	s := newSession(rw)
	go s.read()
	return s
}

// Serve is the guest's side: it says hello and calls handle for each stream, in
// a goroutine of its own, until the session ends. It returns when all of these have
// returned, with nil when the host closed the session.
func Serve(rw io.ReadWriteCloser, hello Hello, handle func(*Stream)) error {
	s := newSession(rw)
	s.guest, s.serve = true, handle
	b, err := json.Marshal(hello)
	if err != nil {
		return err
	}
	if err := s.send(Frame{Kind: KindHello, Payload: b}); err != nil {
		return err
	}
	s.read()
	s.work.Wait()
	if errors.Is(s.err, io.EOF) {
		return nil
	}
	return s.err
}

// Hello waits for the guest's first word.
func (s *Session) Hello(ctx context.Context) (Hello, error) {
	select {
	case h := <-s.hello:
		if h.Version != Version {
			return h, fmt.Errorf("%w: the guest speaks version %d, this program version %d", ErrFormat, h.Version, Version)
		}
		return h, nil
	case <-s.done:
		return Hello{}, s.Err()
	case <-ctx.Done():
		return Hello{}, context.Cause(ctx)
	}
}

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session ended, nil while it runs.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session.
func (s *Session) Close() error {
	err := s.rw.Close()
	<-s.done
	return err
}

// read takes frames until the session ends. It never waits for a reader of a
// stream: windows bound what can come.
func (s *Session) read() {
	buf := make([]byte, MaxPayload)
	var err error
	for err == nil {
		var f Frame
		if f, err = Read(s.rw, buf); err == nil {
			err = s.take(f)
		}
	}
	s.mu.Lock()
	s.err = err
	streams := s.streams
	s.streams = map[uint32]*Stream{}
	s.mu.Unlock()
	for _, st := range streams {
		st.finish(fmt.Errorf("appliance session: %w", err))
	}
	_ = s.rw.Close()
	close(s.done)
}

func (s *Session) take(f Frame) error {
	switch {
	case f.Kind == KindHello:
		return s.takeHello(f)
	case f.Kind == KindOpen:
		return s.takeOpen(f)
	}
	s.mu.Lock()
	st, known := s.streams[f.Stream]
	late := f.Stream <= s.last
	s.mu.Unlock()
	if !known {
		if late {
			return nil // it crossed the stream's end
		}
		return fmt.Errorf("%w: kind %d on stream %d, which was never opened", ErrFormat, f.Kind, f.Stream)
	}
	return st.take(f)
}

func (s *Session) takeHello(f Frame) error {
	var h Hello
	if s.guest {
		return fmt.Errorf("%w: hello from the host", ErrFormat)
	}
	if err := json.Unmarshal(f.Payload, &h); err != nil {
		return fmt.Errorf("%w: hello: %w", ErrFormat, err)
	}
	select {
	case s.hello <- h:
		return nil
	default:
		return fmt.Errorf("%w: a second hello", ErrFormat)
	}
}

func (s *Session) takeOpen(f Frame) error {
	if !s.guest {
		return fmt.Errorf("%w: the guest opened a stream", ErrFormat)
	}
	var r Request
	if err := json.Unmarshal(f.Payload, &r); err != nil {
		return fmt.Errorf("%w: request: %w", ErrFormat, err)
	}
	s.mu.Lock()
	if f.Stream <= s.last {
		s.mu.Unlock()
		return fmt.Errorf("%w: stream %d opened after %d", ErrFormat, f.Stream, s.last)
	}
	s.last = f.Stream
	st := newStream(s, f.Stream, r)
	full := len(s.streams) >= MaxStreams
	if !full {
		s.streams[st.id] = st
	}
	s.mu.Unlock()
	if full {
		return st.End(Result{Error: fmt.Sprintf("%d requests are running already", MaxStreams)})
	}
	s.work.Go(func() { s.serve(st) })
	return nil
}

// Open starts a request.
func (s *Session) Open(r Request) (*Stream, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxPayload {
		return nil, fmt.Errorf("request of %d bytes, at most %d: put long arguments into a file", len(b), MaxPayload)
	}
	// The number is taken and the frame written in one go, so that numbers ascend on the wire.
	s.wmu.Lock()
	defer s.wmu.Unlock()
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	s.last++
	st := newStream(s, s.last, r)
	s.streams[st.id] = st
	s.mu.Unlock()
	if err := s.write(Frame{Stream: st.id, Kind: KindOpen, Payload: b}); err != nil {
		s.forget(st.id)
		return nil, err
	}
	return st, nil
}

func (s *Session) forget(id uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, id)
}

func (s *Session) send(f Frame) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	return s.write(f)
}

func (s *Session) write(f Frame) error {
	s.wbuf = f.Append(s.wbuf[:0])
	_, err := s.rw.Write(s.wbuf)
	return err
}

// giveBack widens the other side's window. A failed write ends the session by
// its reader, so there is nobody to tell here.
func (s *Session) giveBack(stream uint32, c Channel, n int) {
	_ = s.send(Frame{Stream: stream, Kind: KindWindow, Channel: c, Payload: windowPayload(n)})
}

func (st *Stream) take(f Frame) error {
	ok := true
	switch f.Kind {
	case KindData:
		ok = st.receives(f.Channel) && st.in[f.Channel].push(f.Payload)
	case KindEnd:
		if ok = st.receives(f.Channel); ok {
			st.in[f.Channel].end(nil)
		}
	case KindWindow:
		ok = !st.receives(f.Channel) && st.out[f.Channel].grant(int(binary.BigEndian.Uint32(f.Payload)))
	case KindCancel:
		if ok = st.session.guest; ok {
			st.cancel()
			st.in[In].end(errCancelled) // whoever waits for data stops too
		}
	case KindResult:
		return st.takeResult(f)
	}
	if !ok {
		return fmt.Errorf("%w: kind %d with %d bytes on channel %d of stream %d",
			ErrFormat, f.Kind, len(f.Payload), f.Channel, f.Stream)
	}
	return nil
}

// receives says whether this side is the channel's reader.
func (st *Stream) receives(c Channel) bool { return (c == In) == st.session.guest }
