package bucket

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// line is the way to an engine, at an address that stays when another process takes the
// engine's place.
type line struct {
	listener net.Listener

	mu    sync.Mutex
	to    string // "": nobody answers
	conns []net.Conn
	moved int64 // bytes, both ways
	watch int64 // when so many have moved ...
	then  func()
}

func newLine(t *testing.T) *line {
	t.Helper()
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { n.carry(context.WithoutCancel(t.Context()), c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		n.connect("")
		all.Wait()
	})
	return n
}

func (n *line) address() string { return n.listener.Addr().String() }

// connect leads to another place from now on, and ends what led to the last one.
func (n *line) connect(to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.to = to
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

// after calls f once, when so many more bytes have been carried.
func (n *line) after(bytes int64, f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watch, n.then = n.moved+bytes, f
}

// happened reports whether what after was told has been called.
func (n *line) happened() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.then == nil
}

func (n *line) carry(ctx context.Context, c net.Conn) {
	defer func() { _ = c.Close() }()
	n.mu.Lock()
	to := n.to
	n.mu.Unlock()
	if to == "" {
		return
	}
	var d net.Dialer
	s, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	n.mu.Lock()
	ended := n.to != to
	n.conns = append(n.conns, c, s)
	n.mu.Unlock()
	if ended {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { n.copy(s, c) })
	both.Go(func() { n.copy(c, s) })
	both.Wait()
}

func (n *line) copy(to, from net.Conn) {
	_, _ = io.Copy(io.MultiWriter(to, counter{n}), from) // either end may go
	_ = to.Close()
	_ = from.Close()
}

// counter counts what is carried.
type counter struct{ n *line }

func (c counter) Write(p []byte) (int, error) {
	c.n.mu.Lock()
	c.n.moved += int64(len(p))
	f := c.n.then
	if f != nil && c.n.moved >= c.n.watch {
		c.n.then = nil
	} else {
		f = nil
	}
	c.n.mu.Unlock()
	if f != nil {
		f()
	}
	return len(p), nil
}
