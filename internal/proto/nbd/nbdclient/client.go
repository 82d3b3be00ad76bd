package nbdclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// client is an export over any number of connections.
type client struct {
	uri  nbd.URI
	opts Options
	name string // the URI, for messages
	want []string
	base *session // of the first connection: what all others must be like

	ctx    context.Context //nolint:containedctx // images have no context in their calls: this one is theirs
	cancel context.CancelCauseFunc
	dialer chan struct{} // held while connecting anew

	mu      sync.Mutex
	wg      sync.WaitGroup // what runs beside the callers; added to under mu
	conns   []*conn
	closed  bool
	growing bool
	fatal   error // no request is made any more
}

// dial opens an export. ctx is that of all that follows.
func dial(ctx context.Context, u nbd.URI, o Options) (*client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &client{uri: u, opts: o, name: u.String(), dialer: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	if err := c.first(); err != nil {
		c.cancel(errClosed)
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	c.grow()
	return c, nil
}

// first opens the first connection and finds out what the export is.
func (c *client) first() error {
	cn, err := c.connect(func(h *shake) (*session, error) {
		want, err := h.expand(c.uri.Export, c.opts)
		if err != nil {
			return nil, err
		}
		c.want = want
		return h.open(c.uri.Export, want)
	})
	if err != nil {
		return err
	}
	c.base = cn.s
	c.conns = []*conn{cn}
	for _, q := range c.want {
		if q != nbd.BaseAllocation && !slices.Contains(c.base.contexts, q) {
			cn.close()
			return fmt.Errorf("the export has no metadata context %q", q)
		}
	}
	return nil
}

// expand makes a list of contexts of the options, with names for families.
func (h *shake) expand(export string, o Options) ([]string, error) {
	var want []string
	add := func(name string) error {
		if !slices.Contains(want, name) {
			want = append(want, name)
		}
		if len(want) > maxContexts {
			return fmt.Errorf("more than %d metadata contexts", maxContexts)
		}
		return nil
	}
	if !o.NoAllocation {
		_ = add(nbd.BaseAllocation)
	}
	var families []string
	for _, q := range o.Contexts {
		if isFamily(q) {
			families = append(families, q)
		} else if err := add(q); err != nil {
			return nil, err
		}
	}
	if len(families) == 0 {
		return want, nil
	}
	if _, err := h.dialectOnce(); err != nil { // contexts come after it
		return nil, err
	}
	return want, h.listContexts(export, families, add)
}

// maxContexts bounds the contexts of a connection.
const maxContexts = 64

// connect makes a connection ready for requests.
func (c *client) connect(open func(h *shake) (*session, error)) (*conn, error) {
	var s *session
	h, err := connect(c.ctx, c.uri, c.opts, func(h *shake) (err error) {
		s, err = open(h)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newConn(c.ctx, h, s, c.opts.Timeout), nil
}

// again makes one more connection, to the same export as before.
func (c *client) again() (*conn, error) {
	cn, err := c.connect(func(h *shake) (*session, error) { return h.open(c.uri.Export, c.want) })
	if err != nil {
		return nil, err
	}
	if err := c.base.compare(cn.s); err != nil {
		cn.close()
		return nil, err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.conns = append(c.conns, cn)
	}
	c.mu.Unlock()
	if closed {
		cn.close()
		return nil, errClosed
	}
	return cn, nil
}

// compare says what is different in a session with the same export.
func (s *session) compare(o *session) error {
	switch {
	case s.size != o.size:
		return fmt.Errorf("%w: it had %d bytes and has %d now", ErrChanged, s.size, o.size)
	case s.flags != o.flags:
		return fmt.Errorf("%w: its flags were %s and are %s now", ErrChanged, s.flags, o.flags)
	case s.mode != o.mode:
		return fmt.Errorf("%w: the server spoke %s replies and speaks %s ones now", ErrChanged, s.mode, o.mode)
	case s.sizes != o.sizes:
		return fmt.Errorf("%w: its block sizes were %v and are %v now", ErrChanged, s.sizes, o.sizes)
	case !slices.Equal(s.contexts, o.contexts):
		return fmt.Errorf("%w: its metadata contexts were %q and are %q now", ErrChanged, s.contexts, o.contexts)
	}
	return nil
}

// grow opens the connections that are missing, in the background. A server that
// takes fewer is used with fewer.
func (c *client) grow() {
	if c.base.flags&nbd.CanMultiConn == 0 || c.opts.Connections < 2 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.growing {
		return
	}
	c.growing = true
	c.wg.Go(func() {
		for c.alive() < c.opts.Connections {
			if _, err := c.again(); err != nil {
				if errors.Is(err, ErrChanged) {
					c.stop(err)
				}
				break
			}
		}
		c.mu.Lock()
		c.growing = false
		c.mu.Unlock()
	})
}

// alive drops the connections that ended and counts the others.
func (c *client) alive() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = slices.DeleteFunc(c.conns, func(cn *conn) bool {
		ended := cn.load() < 0
		if ended {
			c.wg.Go(cn.close)
		}
		return ended
	})
	return len(c.conns)
}

// stop makes all further requests fail.
func (c *client) stop(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal == nil {
		c.fatal = err
	}
}

// pick returns the connection with the least to do; nil when there is none.
func (c *client) pick() (best *conn, err error) {
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	c.alive()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fatal != nil {
		return nil, c.fatal
	}
	least := -1
	for _, cn := range c.conns {
		if n := cn.load(); n >= 0 && (least < 0 || n < least) {
			best, least = cn, n
		}
	}
	return best, nil
}

// conn returns a connection, a new one if there is no other.
func (c *client) conn(ctx context.Context) (*conn, error) {
	if cn, err := c.pick(); cn != nil || err != nil {
		return cn, err
	}
	select {
	case c.dialer <- struct{}{}:
		defer func() { <-c.dialer }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.ctx.Done():
		return nil, context.Cause(c.ctx)
	}
	if cn, err := c.pick(); cn != nil || err != nil {
		return cn, err
	}
	cn, err := c.again()
	if err != nil {
		if c.ctx.Err() != nil {
			return nil, context.Cause(c.ctx)
		}
		return nil, err
	}
	c.grow()
	return cn, nil
}

// close ends everything and waits for it.
func (c *client) close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	conns := c.conns
	c.conns = nil
	c.mu.Unlock()
	var wg sync.WaitGroup
	for _, cn := range conns {
		wg.Go(cn.close)
	}
	wg.Wait()
	c.cancel(errClosed)
	c.wg.Wait()
	return nil
}

// background runs f beside the callers, until close waits for it.
func (c *client) background(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
}

// The pauses before a request is repeated.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// run makes requests and waits for them. Those that were lost with their
// connection are made again if they may be. Errors are in the calls; the one
// that comes back says why no more were made.
//
// ctx must not end before calls with buffers do, unless it is the client's.
func (c *client) run(ctx context.Context, calls []*call, repeat bool) error {
	var since time.Time // of the first loss
	pause := firstPause
	for {
		err := c.once(ctx, calls)
		if err == nil {
			calls, err = c.unfinished(calls)
		}
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrProtocol) || errors.Is(err, ErrChanged) {
			c.stop(err)
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if !repeat || c.opts.Patience < 0 {
			return err
		}
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since)+pause > c.opts.Patience {
			return fmt.Errorf("%w (tried again for %s)", err, time.Since(since).Round(time.Millisecond))
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, lastPause)
	}
}

// once makes requests over one connection.
func (c *client) once(ctx context.Context, calls []*call) error {
	cn, err := c.conn(ctx)
	if err != nil {
		return err
	}
	for _, k := range calls {
		k.reset()
	}
	cn.start(calls)
	for _, k := range calls {
		select {
		case <-k.done:
		case <-ctx.Done():
			if k.dst == nil && k.src == nil {
				return context.Cause(ctx)
			}
			<-k.done // its buffers are the caller's
		}
	}
	return nil
}

// unfinished are the calls that are to be made again, and why.
func (c *client) unfinished(calls []*call) (rest []*call, err error) {
	for _, k := range calls {
		if k.err == nil {
			continue
		}
		if _, answered := errors.AsType[*nbd.Error](k.err); answered && !isLost(k.err) {
			continue
		}
		rest = append(rest, k)
		if err == nil || !isLost(k.err) {
			err = k.err
		}
	}
	return rest, err
}
