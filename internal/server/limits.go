package server

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound what clients can take of a server. What is 0 gets its default.
type Limits struct {
	Connections int     // in all: 4096
	PerAddress  int     // connections from one address, or network /64 of IPv6: 1024
	Sessions    int     // of one user or API token: 512
	Requests    float64 // a second, of one user or token, or of an address without a login: 500
	Burst       int     // requests at once: 4 seconds' worth
}

func (l Limits) orDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = 4096
	}
	if l.PerAddress == 0 {
		l.PerAddress = 1024
	}
	if l.Sessions == 0 {
		l.Sessions = 512
	}
	if l.Requests == 0 {
		l.Requests = 500
	}
	if l.Burst == 0 {
		l.Burst = int(4 * l.Requests)
	}
	return l
}

// limited is a listener that closes connections beyond the limits at once.
type limited struct {
	net.Listener
	limits Limits

	mu   sync.Mutex
	all  int
	from map[netip.Addr]int
}

func limit(l net.Listener, limits Limits) *limited {
	return &limited{Listener: l, limits: limits, from: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr := network(c.RemoteAddr().String())
		if l.enter(addr) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.leave(addr) })}, nil
		}
		_ = c.Close()
	}
}

func (l *limited) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.limits.Connections || l.from[a] >= l.limits.PerAddress {
		return false
	}
	l.all++
	l.from[a]++
	return true
}

func (l *limited) leave(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.from[a]--; l.from[a] == 0 {
		delete(l.from, a)
	}
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close()
}

// network is the address of a client as far as it tells clients apart: of IPv6,
// the first 64 bits, of which every client has a network full.
func network(hostport string) netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	a := ap.Addr().Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// rates are how often somebody may ask.
type rates struct {
	limits Limits
	mu     *sync.Mutex
	of     map[string]*rate.Limiter
}

func newRates(l Limits) rates {
	return rates{limits: l, mu: new(sync.Mutex), of: map[string]*rate.Limiter{}}
}

// maxWait is how long a request waits for its turn.
const maxWait = 5 * time.Second

// take returns how long somebody has to wait, and whether a request may wait that
// long: if not, it is not counted.
func (r rates) take(who string, now time.Time) (time.Duration, bool) {
	const most = 10000 // who are remembered
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.of[who]
	if l == nil {
		if len(r.of) >= most {
			r.forget(now)
		}
		l = rate.NewLimiter(rate.Limit(r.limits.Requests), r.limits.Burst)
		r.of[who] = l
	}
	res := l.ReserveN(now, 1)
	wait := res.DelayFrom(now)
	if wait > maxWait {
		res.CancelAt(now)
		return wait, false
	}
	return wait, true
}

// forget drops those who have not asked for a while, all if need be.
func (r rates) forget(now time.Time) {
	before := len(r.of)
	for who, l := range r.of {
		if l.TokensAt(now) >= float64(r.limits.Burst) {
			delete(r.of, who)
		}
	}
	if len(r.of) > before/2 {
		clear(r.of)
	}
}
