package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// pair runs handle as the guest and returns the host's session.
func pair(t *testing.T, handle func(*Stream)) *Session {
	t.Helper()
	a, b := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := Serve(b, Hello{Version: Version, Kernel: "6.1"}, handle); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("guest: %v", err)
		}
	})
	s := Dial(a)
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	if h, err := s.Hello(t.Context()); err != nil || h.Kernel != "6.1" {
		t.Fatalf("hello %+v, %v", h, err)
	}
	return s
}

func TestStreamsCarryBothWaysAtOnce(t *testing.T) {
	s := pair(t, func(st *Stream) {
		n, err := io.Copy(st.Writer(Out), st.Reader(In)) // an echo
		if err != nil {
			t.Errorf("echo: %v", err)
		}
		_, _ = io.WriteString(st.Writer(Err), st.Request.Path)
		_ = st.End(Result{Code: int(n % 251)})
	})
	var wg sync.WaitGroup
	for i := range 8 {
		data := bytes.Repeat([]byte{byte(i), 1, 2}, 300_000+i) // several windows
		wg.Go(func() {
			st, err := s.Open(Request{Op: OpRun, Path: "note"})
			if err != nil {
				t.Error(err)
				return
			}
			var in sync.WaitGroup
			in.Go(func() {
				_, err := st.Writer(In).Write(data)
				if err == nil {
					err = st.Writer(In).Close()
				}
				if err != nil {
					t.Errorf("write: %v", err)
				}
			})
			got, err := io.ReadAll(st.Reader(Out))
			note, _ := io.ReadAll(st.Reader(Err))
			in.Wait()
			r, rerr := st.Result(t.Context())
			if err != nil || rerr != nil || !bytes.Equal(got, data) || string(note) != "note" || r.Code != len(data)%251 {
				t.Errorf("stream %d: %d bytes of %d, note %q, result %+v, errors %v, %v", i, len(got), len(data), note, r, err, rerr)
			}
		})
	}
	wg.Wait()
}

func TestStalledReaderStopsItsStreamOnly(t *testing.T) {
	s := pair(t, func(st *Stream) {
		if st.Request.Op == OpGet {
			_, _ = st.Writer(Out).Write(make([]byte, 2*Window))
		}
		_ = st.End(Result{})
	})
	slow, err := s.Open(Request{Op: OpGet})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		st, err := s.Open(Request{Op: OpRun})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Result(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := io.ReadAll(slow.Reader(Out))
	if err != nil || len(got) != 2*Window {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestCancelReachesTheGuest(t *testing.T) {
	s := pair(t, func(st *Stream) {
		<-st.Context().Done()
		_ = st.End(Result{Signal: "killed"})
	})
	st, err := s.Open(Request{Op: OpRun})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Cancel(); err != nil {
		t.Fatal(err)
	}
	if r, err := st.Result(t.Context()); err != nil || r.Signal != "killed" {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestMoreStreamsThanAllowedAreRefused(t *testing.T) {
	s := pair(t, func(st *Stream) {
		<-st.Context().Done()
		_ = st.End(Result{})
	})
	for range MaxStreams {
		if _, err := s.Open(Request{Op: OpRun}); err != nil {
			t.Fatal(err)
		}
	}
	st, err := s.Open(Request{Op: OpRun})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := st.Result(t.Context()); err != nil || !strings.Contains(r.Error, "64 requests") {
		t.Fatalf("%+v, %v", r, err)
	}
}

func TestEndOfTheSessionWakesEverybody(t *testing.T) {
	s := pair(t, func(st *Stream) { <-st.Context().Done() })
	st, err := s.Open(Request{Op: OpRun})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := io.ReadAll(st.Reader(Out)); err == nil {
			t.Error("the reader saw a clean end")
		}
	})
	wg.Go(func() {
		if _, err := st.Writer(In).Write(make([]byte, 2*Window)); err == nil {
			t.Error("the writer saw no error")
		}
	})
	wg.Go(func() {
		if _, err := st.Result(t.Context()); err == nil {
			t.Error("a result without a guest")
		}
	})
	_ = s.Close()
	wg.Wait()
	if _, err := s.Open(Request{Op: OpRun}); err == nil {
		t.Error("a stream on an ended session")
	}
}

// A hostile guest's frames end the session with ErrFormat.
func TestHostRefuses(t *testing.T) {
	data := func(id uint32, c Channel, n int) []byte {
		return Frame{Stream: id, Kind: KindData, Channel: c, Payload: make([]byte, n)}.Append(nil)
	}
	for name, b := range map[string][]byte{
		"stream never opened":  data(7, Out, 1),
		"data on In":           data(1, In, 1),
		"empty data":           data(1, Out, 0),
		"more than the window": bytes.Repeat(data(1, Out, MaxPayload), Window/MaxPayload+1),
		"a wider window than was used": Frame{
			Stream: 1, Kind: KindWindow, Channel: In, Payload: windowPayload(1),
		}.Append(nil),
		"a second hello": bytes.Repeat(Frame{Kind: KindHello, Payload: []byte(`{"version":1}`)}.Append(nil), 2),
		"open":           Frame{Stream: 2, Kind: KindOpen, Payload: []byte(`{}`)}.Append(nil),
		"cancel":         Frame{Stream: 1, Kind: KindCancel}.Append(nil),
		"huge frame":     {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 3, 1, 0, 0},
		"no frame":       []byte("SeaBIOS (version 1.16)"),
		"result no JSON": Frame{Stream: 1, Kind: KindResult, Payload: []byte("x")}.Append(nil),
	} {
		t.Run(name, func(t *testing.T) {
			a, b2 := net.Pipe()
			s := Dial(a)
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = io.Copy(io.Discard, b2) })
			defer wg.Wait()
			defer b2.Close()
			if _, err := s.Open(Request{Op: OpRun}); err != nil {
				t.Fatal(err)
			}
			_ = b2.SetWriteDeadline(time.Now().Add(10 * time.Second))
			_, _ = b2.Write(b)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			select {
			case <-s.Done():
			case <-ctx.Done():
				t.Fatal("the session goes on")
			}
			if !errors.Is(s.Err(), ErrFormat) {
				t.Fatalf("err = %v, want ErrFormat", s.Err())
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(Frame{Kind: KindHello, Payload: []byte(`{"version":1}`)}.Append(nil))
	f.Add(Frame{Stream: 1, Kind: KindData, Channel: Err, Payload: []byte("abc")}.Append(nil))
	f.Add(Frame{Stream: 1, Kind: KindWindow, Channel: Out, Payload: windowPayload(Window)}.Append(nil))
	f.Add(Frame{Stream: 9, Kind: KindEnd, Channel: Out}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		buf := make([]byte, MaxPayload)
		fr, err := Read(bytes.NewReader(b), buf)
		if err != nil {
			return
		}
		if again := fr.Append(nil); !bytes.HasPrefix(b, again) {
			t.Fatalf("%+v became %x", fr, again)
		}
	})
}

// Whatever a guest sends, the host's session ends and holds no more than its windows.
func FuzzSession(f *testing.F) {
	f.Add(Frame{Kind: KindHello, Payload: []byte(`{"version":1}`)}.Append(nil))
	f.Add(Frame{Stream: 1, Kind: KindData, Channel: Err, Payload: []byte("abc")}.Append(
		Frame{Stream: 1, Kind: KindEnd, Channel: Out}.Append(nil)))
	f.Add(Frame{Stream: 1, Kind: KindResult, Payload: []byte(`{"code":3}`)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := Dial(&canned{r: bytes.NewReader(b)})
		st, err := s.Open(Request{Op: OpRun})
		if err != nil {
			return // it ended first
		}
		_, _ = io.Copy(io.Discard, st.Reader(Out))
		_, _ = io.Copy(io.Discard, st.Reader(Err))
		_, _ = st.Result(t.Context())
		<-s.Done()
		if len(s.streams) != 0 || s.Err() == nil {
			t.Fatalf("%d streams after the end, err %v", len(s.streams), s.Err())
		}
	})
}

type canned struct{ r io.Reader }

func (c *canned) Read(p []byte) (int, error)  { return c.r.Read(p) }
func (c *canned) Write(p []byte) (int, error) { return len(p), nil }
func (c *canned) Close() error                { return nil }
