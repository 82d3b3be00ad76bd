//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// proxy hands requests on to an engine, counts them, and can be as far away from it
// as is wished. Each connection has one to the engine; bodies go from socket to socket in
// the kernel (splice), so that it takes little of the cores that all share.
type proxy struct {
	listener net.Listener
	engine   string
	far      atomic.Int64 // nanoseconds of one way

	mu    sync.Mutex
	count traffic
	open  map[net.Conn]struct{}
}

// traffic is what passed.
type traffic struct {
	Requests map[string]int // by method
	Up, Down int64          // bytes of bodies
}

func (t traffic) all() (n int) {
	for _, k := range t.Requests {
		n += k
	}
	return n
}

func newProxy(engine string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, engine: engine, open: map[net.Conn]struct{}{}}
	p.reset()
	go p.serve()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// close ends all connections.
func (p *proxy) close() error {
	err := p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // whoever uses it ends
	}
	return err
}

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			far, err := net.Dial("tcp", p.engine)
			if err != nil {
				_ = near.Close()
				return
			}
			p.mu.Lock()
			p.open[near], p.open[far] = struct{}{}, struct{}{}
			p.mu.Unlock()
			p.wait(2) // as TCP does to shake hands
			_ = p.carry(end{near, bufio.NewReader(near)}, end{far, bufio.NewReader(far)})
			_ = errors.Join(near.Close(), far.Close())
			p.mu.Lock()
			delete(p.open, near)
			delete(p.open, far)
			p.mu.Unlock()
		}()
	}
}

// end is a connection and what was read from it.
type end struct {
	net.Conn
	buf *bufio.Reader
}

// carry hands on one request after the other, each with its answer.
func (p *proxy) carry(client, engine end) error {
	for {
		q, err := http.ReadRequest(client.buf)
		if err != nil {
			return err
		}
		p.mu.Lock()
		p.count.Requests[q.Method]++
		p.mu.Unlock()
		if q.ContentLength < 0 {
			return errors.New("a body of unknown length")
		}
		p.wait(1)
		if q.Header.Get("Expect") != "" { // it comes in any case
			q.Header.Del("Expect")
			if _, err := io.WriteString(client, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
				return err
			}
		}
		if err := p.ask(client, engine, q); err != nil {
			return err
		}
		if err := p.answer(client, engine, q); err != nil {
			return err
		}
	}
}

func (p *proxy) ask(client, engine end, q *http.Request) error {
	if _, err := fmt.Fprintf(engine, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.Method, q.RequestURI, q.Host); err != nil {
		return err
	}
	if err := q.Header.Write(engine); err != nil {
		return err
	}
	if _, err := io.WriteString(engine, "\r\n"); err != nil {
		return err
	}
	return p.pass(engine, client, q.ContentLength, &p.count.Up)
}

func (p *proxy) answer(client, engine end, q *http.Request) error {
	a, err := http.ReadResponse(engine.buf, q)
	if err != nil {
		return err
	}
	p.wait(1)
	if a.ContentLength < 0 || q.Method == http.MethodHead || a.ContentLength == 0 {
		return errors.Join(a.Write(client), a.Body.Close())
	}
	if _, err := fmt.Fprintf(client, "HTTP/1.1 %s\r\n", a.Status); err != nil {
		return err
	}
	if err := a.Header.Write(client); err != nil {
		return err
	}
	if _, err := io.WriteString(client, "\r\n"); err != nil {
		return err
	}
	return p.pass(client, engine, a.ContentLength, &p.count.Down)
}

// pass hands on n bytes of a body: what was read already, and the rest in the kernel.
func (p *proxy) pass(to, from end, n int64, count *int64) error {
	p.mu.Lock()
	*count += n
	p.mu.Unlock()
	have := min(int64(from.buf.Buffered()), n)
	if _, err := io.CopyN(to.Conn, from.buf, have); err != nil {
		return err
	}
	_, err := io.CopyN(to.Conn, from.Conn, n-have)
	return err
}

// wait is as long as a number of ways.
func (p *proxy) wait(ways int) {
	if far := time.Duration(p.far.Load()); far > 0 {
		time.Sleep(far * time.Duration(ways))
	}
}

// reset begins to count anew.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count = traffic{Requests: map[string]int{}}
}

// passed is what passed since.
func (p *proxy) passed() traffic {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.count
	t.Requests = maps.Clone(t.Requests)
	return t
}
