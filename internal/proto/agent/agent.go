// Package agent speaks with the QEMU guest agent, qemu-ga, through the socket of
// its virtio-serial port.
//
// # On the wire
//
// As QMP (internal/proto/qmp), but without greeting, ids and events: a command,
// then its answer. Nothing says which command an answer belongs to, so before
// the first command, and after one that was not waited for, the stream is
// brought in step:
//
//	0xFF {"execute": "guest-sync-delimited", "arguments": {"id": N}}
//	0xFF {"return": N}
//
// The byte 0xFF, which no UTF-8 has, makes the agent drop what it had of an
// unfinished command, and stands before its answer only; what comes before it,
// or with another N, is of someone else's commands.
//
// The port takes no notice of whether an agent runs in the guest: if none does,
// nothing answers, and the error wraps [ErrSilent].
//
// # Freezing
//
// From guest-fsfreeze-freeze to guest-fsfreeze-thaw every write in the guest
// waits. The agent has no timeout of its own: who freezes must thaw, also after
// an error of Freeze, which may have frozen all the same.
//
// # Errors
//
// A refused command is a [*qmp.Error]. [ErrProtocol] is wrapped when what comes
// is not the protocol, [ErrSilent] when nothing came in time.
//
// # Source
//
// QEMU: docs/interop/qemu-ga.rst, qga/qapi-schema.json.
package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/qmp"
)

// Errors that callers tell apart.
var (
	ErrProtocol = errors.New("not the guest agent's protocol")
	ErrSilent   = errors.New("the guest agent does not answer: is it running in the guest?")
)

const (
	syncWait   = 5 * time.Second
	maxMessage = 1 << 20 // bytes
	delimiter  = 0xff
)

// Client is a connection to an agent. It is not safe for concurrent use.
type Client struct {
	conn   net.Conn
	in     *bufio.Reader
	last   int64
	inStep bool
}

// Dial connects to the port's unix socket and waits for the agent.
func Dial(ctx context.Context, path string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("guest agent: %w", err)
	}
	c := NewClient(conn)
	if err := c.sync(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("guest agent %s: %w", path, err), c.Close())
	}
	return c, nil
}

// NewClient speaks over a connection and owns it.
func NewClient(conn net.Conn) *Client {
	// Ids begin anywhere: answers to whoever was connected before may still come.
	return &Client{conn: conn, in: bufio.NewReader(conn), last: time.Now().UnixNano() & (1<<52 - 1)}
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Run runs a command and waits at most as long as ctx lasts. After an error of
// ctx the command may still be carried out.
func (c *Client) Run(ctx context.Context, name string, args, result any) error {
	if !c.inStep {
		if err := c.sync(ctx); err != nil {
			return fmt.Errorf("guest agent: %w", err)
		}
	}
	c.inStep = false // until its answer is here
	err := c.limit(ctx, func() error {
		if err := c.send(nil, name, args); err != nil {
			return err
		}
		line, err := readMessage(c.in)
		if err != nil {
			return err
		}
		return c.take(line, name, result)
	})
	if _, refused := errors.AsType[*qmp.Error](err); err == nil || refused {
		c.inStep = true
	}
	if err != nil {
		return fmt.Errorf("guest agent: %w", err)
	}
	return nil
}

func (c *Client) take(line []byte, name string, result any) error {
	ret, err := ParseAnswer(line)
	if err != nil {
		if e, ok := errors.AsType[*qmp.Error](err); ok {
			e.Command = name
		}
		return err
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(ret, result); err != nil {
		return fmt.Errorf("%w: answer to %s: %w", ErrProtocol, name, err)
	}
	return nil
}

// limit runs f until ctx ends.
func (c *Client) limit(ctx context.Context, f func() error) error {
	if err := c.conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) })
	err := f()
	if !stop() && err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// sync makes the next answer that of the next command.
func (c *Client) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, syncWait, ErrSilent)
	defer cancel()
	c.last++
	err := c.limit(ctx, func() error {
		if err := c.send([]byte{delimiter}, "guest-sync-delimited", map[string]int64{"id": c.last}); err != nil {
			return err
		}
		for {
			if err := skipTo(c.in, delimiter); err != nil {
				return err
			}
			line, err := readMessage(c.in)
			if err != nil {
				return err
			}
			var id int64
			if c.take(line, "guest-sync-delimited", &id) == nil && id == c.last {
				return nil
			}
		}
	})
	c.inStep = err == nil
	return err
}

// skipTo reads up to and including a byte, whatever comes before it.
func skipTo(r *bufio.Reader, b byte) error {
	for {
		c, err := r.ReadByte()
		if err != nil || c == b {
			return ended(err)
		}
	}
}

func (c *Client) send(before []byte, name string, args any) error {
	b, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{name, args})
	if err != nil {
		return err
	}
	_, err = c.conn.Write(append(append(before, b...), '\n'))
	return err
}

// readMessage reads one line.
func readMessage(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxMessage {
			return nil, fmt.Errorf("%w: an answer of more than %d bytes", ErrProtocol, maxMessage)
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, ended(err)
		}
	}
}

func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the connection has ended")
	}
	return err
}

// ParseAnswer reads one answer: what the command returned, or a *qmp.Error.
func ParseAnswer(line []byte) (json.RawMessage, error) {
	m, err := qmp.ParseMessage(bytes.TrimSpace(line))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
	case m.Error != nil:
		return nil, m.Error
	case m.Return == nil:
		return nil, fmt.Errorf("%w: %.80q is no answer", ErrProtocol, line)
	}
	return m.Return, nil
}
