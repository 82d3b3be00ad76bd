//go:build linux

package main

import (
	"context"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// proxy hands requests on to an engine, counts them, and can be as far away from it
// as is wished.
type proxy struct {
	server *http.Server
	addr   string
	far    atomic.Int64 // nanoseconds of one way

	mu    sync.Mutex
	count traffic
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

type fresh struct{}

func newProxy(engine string) (*proxy, error) {
	to, err := url.Parse(engine)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{addr: l.Addr().String()}
	p.reset()
	next := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(a *http.Response) error {
			a.Body = &metered{a.Body, p.down}
			return p.wait(a.Request.Context(), 1)
		},
		Transport: &http.Transport{
			MaxIdleConnsPerHost: 256, DisableCompression: true, ReadBufferSize: piece, WriteBufferSize: piece,
		},
		BufferPool: &pool{},
		ErrorLog:   log.New(io.Discard, "", 0), // of requests that their clients gave up
	}
	p.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.mu.Lock()
			p.count.Requests[r.Method]++
			p.mu.Unlock()
			ways := 1
			if first, ok := r.Context().Value(fresh{}).(*atomic.Bool); ok && first.Swap(false) {
				ways = 3
			}
			if p.wait(r.Context(), ways) != nil {
				return
			}
			r.Body = &metered{r.Body, p.up}
			next.ServeHTTP(w, r)
		}),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			first := &atomic.Bool{}
			first.Store(true)
			return context.WithValue(ctx, fresh{}, first)
		},
	}
	go func() { _ = p.server.Serve(l) }() // until close
	return p, nil
}

func (p *proxy) close() error { return p.server.Close() }

// wait is as long as a number of ways.
func (p *proxy) wait(ctx context.Context, ways int) error {
	far := time.Duration(p.far.Load())
	if far == 0 {
		return nil
	}
	select {
	case <-time.After(far * time.Duration(ways)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *proxy) up(n int)   { p.pass(&p.count.Up, n) }
func (p *proxy) down(n int) { p.pass(&p.count.Down, n) }

func (p *proxy) pass(of *int64, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*of += int64(n)
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

// metered tells how many bytes come out of a body.
type metered struct {
	io.ReadCloser
	tell func(int)
}

func (m *metered) Read(b []byte) (int, error) {
	n, err := m.ReadCloser.Read(b)
	m.tell(n)
	return n, err
}

const piece = 256 << 10

// pool keeps buffers for bodies of answers.
type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, piece)
}

func (p *pool) Put(b []byte) { p.Pool.Put(&b) }
