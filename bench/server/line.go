//go:build linux

package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// line is a long line between a client and a server: what goes in at one end
// comes out of the other after the delay, and at most rate bytes a second go in,
// for all connections together, in each direction. What is under way is as much
// as the line holds, rate times delay; nothing more is read before it is there.
//
// Both ends speak TCP to the line, not through it: the delay is that of the
// protocol above, as it is between machines whose TCP buffers hold as much as
// the line does both ways.
type line struct {
	listener net.Listener
	server   string
	delay    time.Duration // one way
	up, down lane
}

// lane is one direction: when the last byte that was let in has gone in.
type lane struct {
	mu   sync.Mutex
	free time.Time
	rate float64
}

// burst is how far a lane may fall behind its rate and catch up: what a timer
// of this machine is late.
const burst = 2 * time.Millisecond

func newLine(server string, roundTrip time.Duration, rate float64) (*line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &line{listener: l, server: server, delay: roundTrip / 2, up: lane{rate: rate}, down: lane{rate: rate}}
	go n.serve()
	return n, nil
}

func (l *line) addr() string { return l.listener.Addr().String() }
func (l *line) close() error { return l.listener.Close() }

func (l *line) serve() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			far, err := net.Dial("tcp", l.server)
			if err != nil {
				_ = near.Close()
				return
			}
			var both sync.WaitGroup
			both.Go(func() { l.carry(far, near, &l.up) })
			both.Go(func() { l.carry(near, far, &l.down) })
			both.Wait()
			_ = errors.Join(near.Close(), far.Close())
		}()
	}
}

// pass waits until n more bytes have gone in and says when that was.
func (l *lane) pass(n int) time.Time {
	l.mu.Lock()
	if late := time.Now().Add(-burst); l.free.Before(late) {
		l.free = late
	}
	l.free = l.free.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	at := l.free
	l.mu.Unlock()
	time.Sleep(time.Until(at))
	return at
}

// carry carries what src sends to dst, and src's end.
func (l *line) carry(dst, src net.Conn, lane *lane) {
	type piece struct {
		data []byte
		due  time.Time
	}
	const most = 64 << 10
	under := make(chan piece, max(1, int(lane.rate*l.delay.Seconds())/most))
	go func() {
		defer close(under)
		for {
			buf := make([]byte, most)
			n, err := src.Read(buf)
			if n > 0 {
				under <- piece{buf[:n], lane.pass(n).Add(l.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range under {
		time.Sleep(time.Until(p.due))
		if _, err := dst.Write(p.data); err != nil {
			_ = src.Close() // the reader ends
		}
	}
	if c, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}
