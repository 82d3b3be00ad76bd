package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// noise is n bytes that belong to seed.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestBodiesPassBothWaysThroughSmallWindows(t *testing.T) {
	for name, o := range map[string]Options{
		"wide":   usual,
		"narrow": {Frame: 16 << 10, Stream: 20_000, Window: 70_000, Ping: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			c := served(t, o, http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10},
				func(w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					w.Header().Set("X-Kind", r.Header.Get("Content-Type"))
					if r.URL.Query().Get("known") != "" {
						w.Header().Set("Content-Length", strconv.Itoa(len(b)))
					}
					_, _ = w.Write(b)
				})
			var wg sync.WaitGroup
			for i, n := range []int{0, 1, 16 << 10, small, small + 1, piece, 3*piece + 5, 1 << 20} {
				wg.Go(func() {
					want := noise(byte(i), n)
					r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("https://pbs/x?known=%s", strings.Repeat("y", i%2)), bytes.NewReader(want))
					if err != nil {
						t.Error(err)
						return
					}
					r.Header.Set("Content-Type", "a/b")
					resp, err := c.RoundTrip(r)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					if err != nil || !bytes.Equal(got, want) || resp.Header.Get("X-Kind") != "a/b" || resp.StatusCode != 200 {
						t.Errorf("%d bytes: %s, %d bytes, %v, %v", n, resp.Status, len(got), resp.Header, err)
					}
					if err := resp.Body.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(c.streams) != 0 || c.unread != c.credit {
				t.Errorf("%d streams are left, %d bytes of which %d can be given back", len(c.streams), c.unread, c.credit)
			}
		})
	}
}

func TestAnswersGoWhereThereIsRoom(t *testing.T) {
	want := noise(1, 300_000)
	c := served(t, usual, http.HTTP2Config{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(want)))
		_, _ = w.Write(want)
	})
	for _, room := range []int{0, 1, 100_000, len(want), len(want) + 1} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://pbs/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		place := make([]byte, room)
		resp, n, err := c.Fetch(r, func(resp *http.Response) []byte {
			if resp.ContentLength != int64(len(want)) {
				t.Errorf("%d bytes are announced", resp.ContentLength)
			}
			return place
		})
		if err != nil || n != min(room, len(want)) {
			t.Fatalf("room for %d: %d bytes, %v", room, n, err)
		}
		rest, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(append(place[:n:n], rest...), want) {
			t.Errorf("room for %d: then %d bytes, %v", room, len(rest), err)
		}
		_ = resp.Body.Close()
	}
}

func TestUnusualAnswersAreUnderstood(t *testing.T) {
	c, p := played(t, usual)
	got := call(t.Context(), c, nil)
	h := await(p, any1[*http2.HeadersFrame])
	p.answer(h.StreamID, false, ":status", "103", "link", "x")
	head := p.head(":status", "200", "a", "b")
	p.must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: head[:1], PadLength: 7, Priority: http2.PriorityParam{Weight: 1}}))
	p.must(p.WriteContinuation(h.StreamID, true, head[1:]))
	p.must(p.WriteDataPadded(h.StreamID, false, []byte("hel"), make([]byte, 200)))
	p.must(p.WriteRawFrame(0xee, 0, 0, []byte("a frame of tomorrow")))
	p.must(p.WritePriority(h.StreamID, http2.PriorityParam{StreamDep: 5}))
	p.must(p.WriteDataPadded(h.StreamID, false, []byte("lo"), []byte{}))
	p.answer(h.StreamID, true, "a-trailer", "is dropped")
	if r := <-got; r.err != nil || r.status != 200 || r.body != "hello" {
		t.Errorf("%+v", r)
	}
	p.must(p.WriteSettings())
	await(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	p.must(p.WritePing(false, [8]byte{1, 2}))
	if f := await(p, any1[*http2.PingFrame]); !f.IsAck() || f.Data != [8]byte{1, 2} {
		t.Errorf("%v", f)
	}
}

func TestWhatIsNotHTTP2EndsTheConnectionForAll(t *testing.T) {
	for name, tc := range map[string]struct {
		words string
		do    func(p *peer, id uint32)
	}{
		"data before a head":    {"without a head", func(p *peer, id uint32) { p.must(p.WriteData(id, false, []byte("x"))) }},
		"data for nobody":       {"never made", func(p *peer, id uint32) { p.must(p.WriteData(99, false, []byte("x"))) }},
		"a call of the peer's":  {"never made", func(p *peer, id uint32) { p.answer(2, false, ":status", "200") }},
		"a push":                {"type 5", func(p *peer, id uint32) { p.must(p.WriteRawFrame(5, 4, id, make([]byte, 4))) }},
		"a head inside another": {"middle of a head", func(p *peer, id uint32) { p.must(p.WriteRawFrame(1, 0, id, nil)); p.answer(id, true, ":status", "200") }},
		"a head without end": {"without end", func(p *peer, id uint32) {
			p.must(p.WriteRawFrame(1, 0, id, nil))
			p.must(p.WriteContinuation(id, false, nil))
		}},
		"a head of no sense": {"decoding error", func(p *peer, id uint32) {
			p.must(p.WriteRawFrame(1, 4, id, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}))
		}},
		"a head that explodes": {"more than", func(p *peer, id uint32) { p.must(p.WriteRawFrame(1, 4, id, bomb(p))) }},
		"no status":            {"status", func(p *peer, id uint32) { p.answer(id, true, "a", "b") }},
		"status of words":      {"status", func(p *peer, id uint32) { p.answer(id, true, ":status", "2e2") }},
		"another pseudo field": {":path", func(p *peer, id uint32) { p.answer(id, true, ":status", "200", ":path", "/") }},
		"lengths that differ": {"content length", func(p *peer, id uint32) {
			p.answer(id, false, ":status", "200", "content-length", "1", "content-length", "2")
		}},
		"a negative length": {"content length", func(p *peer, id uint32) { p.answer(id, false, ":status", "200", "content-length", "-1") }},
		"two heads":         {"second head", func(p *peer, id uint32) { p.answer(id, false, ":status", "200"); p.answer(id, false, ":status", "200") }},
		"more than announced": {"longer than announced", func(p *peer, id uint32) {
			p.answer(id, false, ":status", "200", "content-length", "1")
			p.must(p.WriteData(id, false, []byte("xy")))
		}},
		"padding without frame": {"padding", func(p *peer, id uint32) {
			p.answer(id, false, ":status", "200")
			p.must(p.WriteRawFrame(0, 8, id, []byte{9, 1}))
		}},
		"a giant frame": {"a frame of", func(p *peer, id uint32) {
			_, err := p.conn.Write([]byte{0x20, 0, 0, 0, 0, 0, 0, 0, byte(id)})
			p.must(err)
		}},
		"settings of 5 bytes": {"settings of 5", func(p *peer, id uint32) { p.must(p.WriteRawFrame(4, 0, 0, make([]byte, 5))) }},
		"a window of 4 GiB": {"a window of", func(p *peer, id uint32) {
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}))
		}},
		"frames of 3 bytes": {"frames of 3", func(p *peer, id uint32) {
			p.must(p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 3}))
		}},
		"a window that bursts":    {"a window of", func(p *peer, id uint32) { p.must(p.WriteWindowUpdate(0, 1<<31-1)) }},
		"a window update of 0":    {"by nothing", func(p *peer, id uint32) { p.must(p.WriteWindowUpdate(id, 0)) }},
		"a short window update":   {"window update of 1", func(p *peer, id uint32) { p.must(p.WriteRawFrame(8, 0, 0, []byte{1})) }},
		"a short ping":            {"ping of 1", func(p *peer, id uint32) { p.must(p.WriteRawFrame(6, 0, 0, []byte{1})) }},
		"a short reset":           {"reset of 1", func(p *peer, id uint32) { p.must(p.WriteRawFrame(3, 0, id, []byte{1})) }},
		"a short farewell":        {"farewell of 1", func(p *peer, id uint32) { p.must(p.WriteRawFrame(7, 0, 0, []byte{1})) }},
		"an end":                  {"", func(p *peer, id uint32) { _ = p.conn.Close() }},
		"an end within a frame":   {"", func(p *peer, id uint32) { _, err := p.conn.Write([]byte{0, 0, 9, 0}); p.must(err); _ = p.conn.Close() }},
		"an end within an answer": {"", func(p *peer, id uint32) { p.answer(id, false, ":status", "200"); _ = p.conn.Close() }},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := played(t, usual)
			a, b := call(t.Context(), c, nil), call(t.Context(), c, nil)
			first := await(p, any1[*http2.HeadersFrame]).StreamID
			last := await(p, any1[*http2.HeadersFrame]).StreamID
			tc.do(p, max(first, last))
			for _, got := range []chan result{a, b, call(t.Context(), c, nil)} {
				if r := <-got; r.err == nil || !strings.Contains(r.err.Error(), tc.words) {
					t.Errorf("a call: %v, want %q", r.err, tc.words)
				}
			}
			if err := c.Err(); err == nil || !strings.Contains(err.Error(), tc.words) {
				t.Errorf("Err: %v", err)
			}
		})
	}
}

// bomb is a short block that decodes to many fields.
func bomb(p *peer) []byte {
	b := p.head("x", strings.Repeat("y", 2000))
	return append(b, bytes.Repeat([]byte{0x80 | 62}, 100)...)
}

func TestPeerThatSendsMoreThanTheWindowIsLeft(t *testing.T) {
	c, p := played(t, usual)
	done := make(chan *http.Response)
	go func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://pbs/x", nil)
		p.must(err)
		resp, err := c.RoundTrip(r)
		if err != nil {
			t.Error(err)
		}
		done <- resp
	}()
	id := await(p, any1[*http2.HeadersFrame]).StreamID
	p.answer(id, false, ":status", "200")
	resp := <-done // and nobody reads
	for range 3 {
		if p.WriteData(id, false, make([]byte, 1<<19)) != nil {
			break // it has hung up
		}
	}
	if r := <-call(t.Context(), c, nil); r.err == nil || !strings.Contains(r.err.Error(), "window") {
		t.Errorf("%+v", r)
	}
	_ = resp.Body.Close()
}

func TestAnswerThatIsCutShortIsAnError(t *testing.T) {
	for name, end := range map[string]func(p *peer, id uint32){
		"by its end":  func(p *peer, id uint32) { p.must(p.WriteData(id, true, []byte("hel"))) },
		"by a reset":  func(p *peer, id uint32) { p.must(p.WriteRSTStream(id, http2.ErrCodeInternal)) },
		"by trailers": func(p *peer, id uint32) { p.answer(id, true, "a", "b") },
	} {
		c, p := played(t, usual)
		got := call(t.Context(), c, nil)
		id := await(p, any1[*http2.HeadersFrame]).StreamID
		p.answer(id, false, ":status", "200", "content-length", "5")
		end(p, id)
		if r := <-got; r.err == nil {
			t.Errorf("%s: %+v", name, r)
		}
		if err := c.Err(); err != nil {
			t.Errorf("%s: the connection ends: %v", name, err)
		}
	}
}

func TestCancelledCallIsResetAndTheNextOneWorks(t *testing.T) {
	c, p := played(t, usual)
	ctx, cancel := context.WithCancel(t.Context())
	place := make([]byte, 10)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://pbs/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, _, err := c.Fetch(r, func(*http.Response) []byte { cancel(); return place })
		done <- err
	}()
	id := await(p, any1[*http2.HeadersFrame]).StreamID
	p.answer(id, false, ":status", "200")
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if f := await(p, any1[*http2.RSTStreamFrame]); f.StreamID != id || f.ErrCode != http2.ErrCodeCancel {
		t.Errorf("%v", f)
	}
	p.must(p.WriteData(id, true, []byte("too late"))) // the peer did not know
	p.must(p.WriteRSTStream(id, http2.ErrCodeNo))
	if !bytes.Equal(place, make([]byte, 10)) {
		t.Errorf("after its end a call has written %q", place)
	}
	got := call(t.Context(), c, nil)
	p.answer(await(p, any1[*http2.HeadersFrame]).StreamID, true, ":status", "204")
	if r := <-got; r.err != nil || r.status != 204 {
		t.Errorf("%+v", r)
	}
	if _, err := c.RoundTrip(r); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that comes too late: %v", err)
	}
}

func TestAnswerBeforeTheEndOfTheRequestEndsIt(t *testing.T) {
	c, p := played(t, usual) // with a window of 64 KiB, which nobody opens
	got := call(t.Context(), c, make([]byte, 1<<20))
	id := await(p, any1[*http2.HeadersFrame]).StreamID
	await(p, any1[*http2.DataFrame])
	p.answer(id, false, ":status", "400")
	p.must(p.WriteData(id, true, []byte("no")))
	if r := <-got; r.err != nil || r.status != 400 || r.body != "no" {
		t.Errorf("%+v", r)
	}
	await(p, func(f *http2.RSTStreamFrame) bool { return f.StreamID == id })
}

func TestBodyThatWaitsLetsOthersPass(t *testing.T) {
	c, p := played(t, usual, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100_000})
	p.must(p.WriteWindowUpdate(0, 1<<20))
	await(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	long := call(t.Context(), c, noise(1, 200_000))
	first := await(p, any1[*http2.HeadersFrame]).StreamID
	for got := 0; got < 100_000; { // and then it waits for its window
		got += len(await(p, any1[*http2.DataFrame]).Data())
	}
	other := call(t.Context(), c, noise(2, 90_000))
	second := await(p, any1[*http2.HeadersFrame]).StreamID
	await(p, func(f *http2.DataFrame) bool { return f.StreamID == second && f.StreamEnded() })
	p.answer(second, true, ":status", "200")
	if r := <-other; r.err != nil {
		t.Error(r.err)
	}
	p.must(p.WriteWindowUpdate(first, 100_000))
	await(p, func(f *http2.DataFrame) bool { return f.StreamID == first && f.StreamEnded() })
	p.answer(first, true, ":status", "200")
	if r := <-long; r.err != nil {
		t.Error(r.err)
	}
}

func TestNoMoreCallsAtATimeThanThePeerTakes(t *testing.T) {
	c, p := played(t, usual, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	await(p, func(f *http2.SettingsFrame) bool { return f.IsAck() })
	ctx, cancel := context.WithCancel(t.Context())
	first := call(t.Context(), c, nil)
	id := await(p, any1[*http2.HeadersFrame]).StreamID
	given, second := call(ctx, c, nil), call(t.Context(), c, nil)
	cancel()
	if r := <-given; !errors.Is(r.err, context.Canceled) {
		t.Errorf("one that waits for a place: %v", r.err)
	}
	p.must(p.WritePing(false, [8]byte{1}))
	f, err := p.ReadFrame()
	if p.must(err); f.Header().Type != http2.FramePing {
		t.Fatalf("%v comes before the first call has ended", f)
	}
	p.answer(id, true, ":status", "200")
	p.answer(await(p, any1[*http2.HeadersFrame]).StreamID, true, ":status", "200")
	if a, b := <-first, <-second; a.err != nil || b.err != nil {
		t.Error(a.err, b.err)
	}
}

func TestPeerThatLeavesFinishesWhatItHasTaken(t *testing.T) {
	c, p := played(t, usual)
	taken := call(t.Context(), c, nil)
	id := await(p, any1[*http2.HeadersFrame]).StreamID
	lost := call(t.Context(), c, nil)
	await(p, any1[*http2.HeadersFrame])
	p.must(p.WriteGoAway(id, http2.ErrCodeNo, []byte("maintenance")))
	if r := <-lost; r.err == nil || !strings.Contains(r.err.Error(), "maintenance") {
		t.Errorf("%+v", r)
	}
	if r := <-call(t.Context(), c, nil); r.err == nil || !strings.Contains(r.err.Error(), "no more calls") {
		t.Errorf("%+v", r)
	}
	p.answer(id, true, ":status", "200")
	if r := <-taken; r.err != nil {
		t.Error(r.err)
	}
}

func TestPeerThatOnlyAsksIsLeft(t *testing.T) {
	c, p := played(t, usual)
	for c.Err() == nil {
		if p.WritePing(false, [8]byte{}) != nil {
			break
		}
	}
	if r := <-call(t.Context(), c, nil); r.err == nil {
		t.Error("a peer may ask without end")
	}
}

func TestBodyOfUnknownLengthIsRefused(t *testing.T) {
	c, _ := played(t, usual)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://pbs/x", io.MultiReader(strings.NewReader("x")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RoundTrip(r); err == nil {
		t.Error("no error")
	}
}

func TestBodyThatFailsGivesItsCallUp(t *testing.T) {
	c, p := played(t, usual)
	why := errors.New("disk gone")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://pbs/x", io.MultiReader(strings.NewReader("x"), broke{why}))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 10
	if _, err := c.RoundTrip(r); !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
	await(p, any1[*http2.RSTStreamFrame])
	if c.window != windowDefault {
		t.Errorf("the window has lost %d bytes that were not sent", windowDefault-c.window)
	}
}

type broke struct{ err error }

func (b broke) Read([]byte) (int, error) { return 0, b.err }

func TestSilentPeerIsAskedAndThenGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := New(near, usual)
		f := http2.NewFramer(far, far)
		pings := 0
		over := make(chan struct{})
		go func() {
			defer close(over)
			_, _ = io.ReadFull(far, make([]byte, len(preface)))
			_ = f.WriteSettings()
			for {
				fr, err := f.ReadFrame()
				if err != nil {
					return
				}
				if ping, ok := fr.(*http2.PingFrame); ok && pings < 3 {
					pings++
					_ = f.WritePing(true, ping.Data)
				}
			}
		}()
		begin := time.Now()
		if r := <-call(t.Context(), c, nil); r.err == nil || !strings.Contains(r.err.Error(), "no sign of life") {
			t.Errorf("%+v", r)
		}
		<-over
		if waited := time.Since(begin); pings != 3 || waited != 5*time.Minute {
			t.Errorf("it answered %d times, and was given up after %s", pings, waited)
		}
		_ = c.Close()
	})
}

func FuzzPeer(f *testing.F) {
	b := appendSettings(nil, setting{settingWindow, 1 << 20})
	b = appendFrame(b, frameHeaders, flagEndHeaders, 1, []byte{0x88, 0x5c, 0x01, '5'})
	b = appendFrame(b, frameData, flagEndStream|flagPadded, 1, []byte("\x02hello\x00\x00"))
	b = appendNumber(b, frameWindowUpdate, 1, 7)
	b = appendFrame(b, framePing, 0, 0, make([]byte, pingSize))
	b = appendNumber(b, frameReset, 3, 7)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		near, far := net.Pipe()
		c := New(near, usual)
		calls := []chan result{call(t.Context(), c, []byte("hello")), call(t.Context(), c, make([]byte, 100_000))}
		go func() { _, _ = io.Copy(io.Discard, far) }()
		_, _ = far.Write(b)
		_ = far.Close()
		for _, got := range calls { // each comes to an end, and an answer that is one holds what was sent
			if r := <-got; r.err == nil && len(r.body) > len(b) {
				t.Errorf("%d bytes of %d", len(r.body), len(b))
			}
		}
		if c.Err() == nil {
			t.Error("the connection outlives its peer")
		}
		_ = c.Close()
	})
}
