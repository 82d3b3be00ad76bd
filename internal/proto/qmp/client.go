package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

const (
	greetingWait = 10 * time.Second
	writeWait    = 30 * time.Second // a monitor that takes nothing for so long is dead
)

// Client is a connection to a monitor. It is safe for concurrent use.
type Client struct {
	conn    net.Conn
	version Version
	over    chan struct{} // closed when the reader has ended
	err     error         // why; valid when over is closed

	sending sync.Mutex // held while a command is written, so that its descriptor goes with it

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan Message
	subs    map[*Events]struct{}
	closed  bool
}

// Dial connects to the monitor at a unix socket.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("QEMU's monitor: %w", err)
	}
	c, err := NewClient(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("monitor %s: %w", path, err)
	}
	return c, nil
}

// NewClient does the handshake on a connection and owns it from then on, also
// after an error.
func NewClient(ctx context.Context, conn net.Conn) (*Client, error) {
	c := &Client{
		conn: conn, over: make(chan struct{}),
		waiting: map[uint64]chan Message{}, subs: map[*Events]struct{}{},
	}
	dec := NewDecoder(conn)
	if err := c.greet(ctx, dec); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	go c.read(dec)
	if err := c.Run(ctx, "qmp_capabilities", nil, nil); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// leftovers bounds what may come before the greeting.
const leftovers = 64

// greet reads the greeting. Before it may come what QEMU had to say to the one who
// was connected before, and could not.
func (c *Client) greet(ctx context.Context, dec *Decoder) error {
	ctx, cancel := context.WithTimeoutCause(ctx, greetingWait, ErrSilent)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Now()) })
	m, err := greeting(dec)
	if !stop() && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	c.version = *m.Greeting
	return nil
}

func greeting(dec *Decoder) (Message, error) {
	for n := range leftovers {
		raw, err := dec.Next()
		switch {
		case errors.Is(err, io.EOF) && n > 0:
			return Message{}, fmt.Errorf("%w: no greeting", ErrProtocol)
		case errors.Is(err, io.EOF):
			return Message{}, ErrClosed
		case err != nil:
			return Message{}, err
		}
		if m, err := ParseMessage(raw); err != nil || m.Greeting != nil {
			return m, err
		}
	}
	return Message{}, fmt.Errorf("%w: no greeting", ErrProtocol)
}

// Version is that of QEMU.
func (c *Client) Version() Version { return c.version }

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.over }

// Close ends the connection and waits until nothing of it runs.
func (c *Client) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	var err error
	if !again {
		err = c.conn.Close()
	}
	<-c.over
	return err
}

// read deals out what comes until the connection ends.
func (c *Client) read(dec *Decoder) {
	err := c.deal(dec)
	c.mu.Lock()
	switch {
	case c.closed, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		c.err = ErrClosed
	default:
		c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	for s := range c.subs {
		close(s.ch)
	}
	c.subs = nil
	if !c.closed { // so that QEMU can take the next client
		c.closed = true
		_ = c.conn.Close()
	}
	c.mu.Unlock()
	close(c.over)
}

func (c *Client) deal(dec *Decoder) error {
	for {
		raw, err := dec.Next()
		if err != nil {
			return err
		}
		m, err := ParseMessage(raw)
		if err != nil {
			return err
		}
		c.mu.Lock()
		switch {
		case m.Event != nil:
			c.publish(*m.Event)
		case m.ID != nil:
			if ch, ok := c.waiting[*m.ID]; ok {
				delete(c.waiting, *m.ID)
				ch <- m // has room for one
			}
		case m.Error != nil: // QEMU could not read what we sent
			err = m.Error
		}
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// Run runs a command. args is its argument object as JSON takes it, nil for
// none; result receives what it returns, nil when that does not matter. When ctx
// ends the command may still be carried out.
func (c *Client) Run(ctx context.Context, name string, args, result any) error {
	return c.RunWith(ctx, nil, name, args, result)
}

// RunWith is Run with a file descriptor for QEMU; nil is none.
func (c *Client) RunWith(ctx context.Context, f *os.File, name string, args, result any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	c.last++
	id := c.last
	answer := make(chan Message, 1)
	c.waiting[id] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}()
	if err := c.send(f, name, args, id); err != nil {
		return fmt.Errorf("QEMU: %s: %w", name, err)
	}
	select {
	case m := <-answer:
		return take(m, name, result)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.over:
	}
	select { // it may have come just before the end
	case m := <-answer:
		return take(m, name, result)
	default:
		return fmt.Errorf("QEMU: %s: %w", name, c.err)
	}
}

func take(m Message, name string, result any) error {
	if m.Error != nil {
		m.Error.Command = name
		return m.Error
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, result); err != nil {
		return fmt.Errorf("QEMU: answer to %s: %w: %w", name, ErrProtocol, err)
	}
	return nil
}

func (c *Client) send(f *os.File, name string, args any, id uint64) error {
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{name, args, id})
	if err != nil {
		return err
	}
	b = append(b, '\n')
	c.sending.Lock()
	defer c.sending.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeWait)); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if f != nil {
		b, err = sendFile(c.conn, f, b)
	}
	if err == nil {
		_, err = c.conn.Write(b)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}
