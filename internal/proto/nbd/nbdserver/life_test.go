package nbdserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// pipes is a listener without a network, so that time can be faked.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{}, 100)} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.closed <- struct{}{}; return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial(tb testing.TB) *client {
	a, b := net.Pipe()
	p.conns <- a
	return &client{tb: tb, nc: b}
}

// inBubble serves with faked time; f's end must leave nothing behind.
func inBubble(t *testing.T, opts nbdserver.Options, f func(t *testing.T, s *nbdserver.Server, p *pipes, done <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := nbdserver.New(opts)
		p := newPipes()
		done := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { done <- s.Serve(ctx, p) }()
		synctest.Wait()
		f(t, s, p, done)
	})
}

func one(d *disk) []*nbdserver.Export { return []*nbdserver.Export{{Image: d}} }

func TestServeReturnsWhenNobodyCame(t *testing.T) {
	inBubble(t, nbdserver.Options{Exports: one(newDisk(1000)), IdleTimeout: time.Minute}, func(t *testing.T, _ *nbdserver.Server, p *pipes, done <-chan error) {
		time.Sleep(50 * time.Second)
		c := p.dial(t)
		c.open("", nbd.Simple)
		time.Sleep(time.Hour) // an idle client is a client
		c.do(nbd.Request{Type: nbd.CmdRead, Length: 10})
		_ = c.nc.Close()
		time.Sleep(59 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("Serve returned too early: %v", err)
		default:
		}
		time.Sleep(2 * time.Second)
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestHandshakeHasALimit(t *testing.T) {
	inBubble(t, nbdserver.Options{Exports: one(newDisk(1000)), HandshakeTimeout: 10 * time.Second}, func(t *testing.T, s *nbdserver.Server, p *pipes, _ <-chan error) {
		c := p.dial(t)
		c.greet(0)
		start := time.Now()
		for { // a byte a second is not silence, but not a handshake either
			if _, err := c.nc.Write([]byte("I")[:1]); err != nil {
				break
			}
			time.Sleep(time.Second)
		}
		if d := time.Since(start); d > 11*time.Second {
			t.Errorf("dropped after %v", d)
		}
		c = p.dial(t) // and one that does not even read the greeting
		time.Sleep(11 * time.Second)
		c.gone()
		if n := s.Stats().Connections; n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

func TestStalledPeersAreDropped(t *testing.T) {
	opts := nbdserver.Options{Exports: one(newDisk(1 << 20)), StallTimeout: 10 * time.Second}
	for _, tc := range []struct {
		name  string
		stall func(c *client)
	}{
		{"half a request", func(c *client) { c.write(nbd.Request{}.Append(nil, nbd.Simple)[:10]) }},
		{"half a payload", func(c *client) { c.send(nbd.Request{Type: nbd.CmdWrite, Length: 1000}, make([]byte, 500)) }},
		{"half a refused payload", func(c *client) {
			c.send(nbd.Request{Type: nbd.CmdWrite, Offset: 1 << 30, Length: 1000}, make([]byte, 500))
		}},
		{"a reply that is not read", func(c *client) { c.send(nbd.Request{Type: nbd.CmdRead, Length: 1000}) }},
		{"half a reply", func(c *client) { c.send(nbd.Request{Type: nbd.CmdRead, Length: 100_000}); c.read(50_000) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, opts, func(t *testing.T, s *nbdserver.Server, p *pipes, _ <-chan error) {
				c := p.dial(t)
				c.open("", nbd.Simple)
				tc.stall(c)
				time.Sleep(5 * time.Second)
				if s.Stats().Connections != 1 {
					t.Error("dropped too early")
				}
				time.Sleep(8 * time.Second)
				if s.Stats().Connections != 0 {
					t.Error("not dropped")
				}
				_ = c.nc.Close()
			})
		})
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	d := newDisk(1 << 20)
	opts := nbdserver.Options{Exports: one(d)}
	synctest.Test(t, func(t *testing.T) {
		d.gate = make(chan struct{})
		s := nbdserver.New(opts)
		p := newPipes()
		done := make(chan error, 1)
		go func() { done <- s.Serve(t.Context(), p) }()
		c := p.dial(t)
		c.open("", nbd.Structured)
		c.send(nbd.Request{Type: nbd.CmdRead, Cookie: 1, Length: 10})
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(t.Context()) }()
		synctest.Wait()
		r := nbd.Request{Type: nbd.CmdWrite, Cookie: 2, Length: 10}
		c.send(r, make([]byte, 10))
		if a := c.receive(r); a.cookie != 2 || a.err.Errno != nbd.ESHUTDOWN {
			t.Errorf("a new request: %+v", a)
		}
		time.Sleep(time.Second)
		close(d.gate)
		r = nbd.Request{Type: nbd.CmdRead, Length: 10}
		if a := c.receive(r); a.cookie != 1 || a.err.Errno != nbd.OK {
			t.Errorf("the request in flight: %+v", a)
		}
		c.gone()
		if err := errors.Join(<-stopped, <-done); err != nil {
			t.Error(err)
		}
		if err := s.Serve(t.Context(), newPipes()); !errors.Is(err, nbdserver.ErrClosed) {
			t.Errorf("serving again: %v", err)
		}
	})
}

func TestShutdownCutsOffAtItsDeadline(t *testing.T) {
	d := newDisk(1 << 20)
	synctest.Test(t, func(t *testing.T) {
		d.gate = make(chan struct{})
		s := nbdserver.New(nbdserver.Options{Exports: one(d)})
		p := newPipes()
		done := make(chan error, 1)
		go func() { done <- s.Serve(t.Context(), p) }()
		c := p.dial(t)
		c.open("", nbd.Simple)
		c.send(nbd.Request{Type: nbd.CmdRead, Length: 10})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		c.gone()
		close(d.gate)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestConnectionsHaveALimit(t *testing.T) {
	s, path := start(t, nbdserver.Options{Exports: one(newDisk(1000)), MaxConnections: 2})
	a, b := connect(t, path), connect(t, path)
	a.open("", nbd.Simple)
	b.open("", nbd.Simple)
	connect(t, path).gone()
	if st := s.Stats(); st.Refused != 1 || st.Accepted != 2 || st.Connections != 2 {
		t.Errorf("%+v", st)
	}
	_ = a.nc.Close()
	for deadline := time.Now().Add(10 * time.Second); s.Stats().Connections > 1 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	connect(t, path).open("", nbd.Simple)
}

func TestEndOfContextCutsEverythingOff(t *testing.T) {
	inBubble(t, nbdserver.Options{Exports: one(newDisk(1000))}, func(t *testing.T, s *nbdserver.Server, p *pipes, done <-chan error) {
		ctx, cancel := context.WithCancelCause(t.Context())
		q := newPipes()
		second := make(chan error, 1)
		go func() { second <- s.Serve(ctx, q) }()
		c, other := q.dial(t), p.dial(t)
		c.open("", nbd.Simple)
		other.open("", nbd.Simple)
		why := errors.New("enough")
		cancel(why)
		c.gone()
		if err := <-second; !errors.Is(err, why) {
			t.Errorf("Serve: %v", err)
		}
		if a := other.do(nbd.Request{Type: nbd.CmdRead, Length: 10}); a.err.Errno != nbd.OK {
			t.Errorf("the other listener's client: %v", a.err)
		}
		_ = other.nc.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		<-done
	})
}

func TestTransmissionWithoutHandshake(t *testing.T) {
	d := newDisk(1000)
	e := &nbdserver.Export{Name: "kernel", Image: d, Align: 512}
	size, flags, err := e.Info(nbd.Simple)
	if err != nil || size != 1024 || flags&nbd.ReadOnly != 0 || flags&nbd.SendDF != 0 {
		t.Fatalf("%d %v %v", size, flags, err)
	}
	s := nbdserver.New(nbdserver.Options{})
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() { done <- s.ServeTransmission(t.Context(), a, e) }()
	c := &client{tb: t, nc: b}
	if x := c.do(nbd.Request{Type: nbd.CmdRead, Length: 1000}); !slices.Equal(x.data, d.b) {
		t.Errorf("read: %v", x.err)
	}
	c.send(nbd.Request{Type: nbd.CmdDisc})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if st := s.Stats(); len(st.Exports) != 1 || st.Exports[0].BytesRead != 1000 {
		t.Errorf("%+v", st)
	}
	c.gone()
}

func TestManyRequestsInFlightShareTheMemory(t *testing.T) {
	d := newDisk(8 << 20)
	d.gate = make(chan struct{})
	_, path := start(t, nbdserver.Options{Exports: one(d), MaxRequests: 8})
	const clients, requests, size = 4, 20, 6 << 20
	done := make(chan int, clients)
	for range clients {
		c := connect(t, path)
		c.open("", nbd.Simple)
		go func() {
			for i := range requests {
				_, _ = c.nc.Write(nbd.Request{Cookie: uint64(i), Length: size}.Append(nil, nbd.Simple))
			}
		}()
		go func() {
			n, _ := io.CopyN(io.Discard, c.nc, requests*(size+nbd.SimpleReplySize))
			done <- int(n)
		}()
	}
	close(d.gate)
	for range clients {
		if n := <-done; n != requests*(size+nbd.SimpleReplySize) {
			t.Errorf("%d bytes came", n)
		}
	}
}
