package nbdserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/nbd"
)

// Serve accepts connections until ctx ends, Shutdown is called, or nobody was
// connected for IdleTimeout. It owns the listener, and returns when its
// connections have ended: nil after Shutdown or idleness.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	defer ln.Close()
	if err := s.listen(ln); err != nil {
		return err
	}
	defer s.unlisten(ln)
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var conns sync.WaitGroup
	defer conns.Wait()
	for pause := time.Duration(0); ; {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
			conns.Go(func() { _ = s.ServeConn(ctx, nc) })
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case s.stopped():
			return nil
		case !passing(err):
			return fmt.Errorf("nbd server: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.log.Warn("cannot accept a connection", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// passing reports whether Accept may succeed later.
func passing(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOMEM, syscall.ENOBUFS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) listen(ln net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.closing:
		return ErrClosed
	}
	s.listeners[ln] = struct{}{}
	s.watchIdle()
	return nil
}

func (s *Server) unlisten(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
	if len(s.listeners) == 0 && s.idle != nil {
		s.idle.Stop()
	}
}

func (s *Server) stopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// watchIdle starts the clock when nobody is connected. The caller holds mu.
func (s *Server) watchIdle() {
	if s.opts.IdleTimeout <= 0 || len(s.conns) > 0 || s.closing {
		return
	}
	if s.idle == nil {
		s.idle = time.AfterFunc(s.opts.IdleTimeout, s.endIdle)
		return
	}
	s.idle.Reset(s.opts.IdleTimeout)
}

func (s *Server) endIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) > 0 || len(s.listeners) == 0 {
		return
	}
	s.log.Info("nobody is connected, ending", "idle", s.opts.IdleTimeout)
	s.close()
}

// close ends listening and tells the connections to. The caller holds mu.
func (s *Server) close() {
	if s.closing {
		return
	}
	s.closing = true
	for ln := range s.listeners {
		_ = ln.Close()
	}
	for c := range s.conns {
		c.drain()
	}
	if len(s.conns) == 0 {
		close(s.ended)
	}
}

// Shutdown ends the server: it accepts nobody, lets requests in flight finish,
// answers new ones with ESHUTDOWN, and closes the connections. When ctx ends
// first, it cuts them off and returns the cause; a read of an image that hangs
// may then still be on its way, and Serve waits for it.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.close()
	s.mu.Unlock()
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.abort(context.Cause(ctx))
	}
	return context.Cause(ctx)
}

// ServeConn serves one client from the handshake on and closes the connection.
// A client that leaves as it should is no error.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn) error {
	c, err := s.begin(ctx, nc)
	if err != nil {
		return err
	}
	defer c.end()
	err = c.handshake()
	if err == nil && c.exp != nil {
		err = c.transmission()
	}
	return c.report(err)
}

// ServeTransmission serves a client that is past the handshake and knows the
// export's size and flags ([Export.Info]): the kernel at the other end of a
// socket. Replies are simple. It closes the connection.
func (s *Server) ServeTransmission(ctx context.Context, nc net.Conn, e *Export) error {
	c, err := s.begin(ctx, nc)
	if err != nil {
		return err
	}
	defer c.end()
	if c.exp, err = s.resolve(e); err != nil {
		return err
	}
	c.setMode(nbd.Simple)
	return c.report(c.transmission())
}

// resolve returns what the server knows of an export, which need not be one of
// Options.
func (s *Server) resolve(e *Export) (*export, error) {
	for _, x := range s.exports {
		if x.Export == e {
			return x, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.hidden[e]; x != nil {
		return x, nil
	}
	x, err := newExport(e)
	if err == nil {
		s.hidden[e] = x
	}
	return x, err
}

// begin registers a connection. After an error it is closed.
func (s *Server) begin(ctx context.Context, nc net.Conn) (*conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.err
	switch {
	case err != nil:
	case s.closing:
		err = ErrClosed
	case len(s.conns) >= s.opts.MaxConnections:
		err = fmt.Errorf("nbd server: %d connections are open, which is the limit", len(s.conns))
		s.refused++
		s.log.Warn("connection refused", "peer", peer(nc), "open", len(s.conns))
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	c := newConn(ctx, s, nc)
	s.conns[c] = struct{}{}
	s.accepted++
	if s.idle != nil {
		s.idle.Stop()
	}
	return c, nil
}

// leave forgets a connection.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if len(s.conns) > 0 {
		return
	}
	s.pool.trim()
	if s.closing {
		close(s.ended)
		return
	}
	if len(s.listeners) > 0 {
		s.watchIdle()
	}
}

func peer(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
