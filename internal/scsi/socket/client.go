package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi"
)

const (
	greetingTime = 10 * time.Second
	grace        = 10 * time.Second // what the way may take besides the command's own time
)

// Transport is a connection to a unit.
type Transport struct {
	conn net.Conn

	mu     sync.Mutex // held while a command runs
	broken error      // why no command can be sent any more
	buf    []byte     // the header of a request
}

var _ scsi.Transport = (*Transport)(nil)

// Dial connects to the unit behind a Unix socket.
func Dial(ctx context.Context, path string) (*Transport, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	t, err := NewTransport(conn)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// NewTransport uses a connection. With success it belongs to the transport.
func NewTransport(conn net.Conn) (*Transport, error) {
	if err := conn.SetReadDeadline(time.Now().Add(greetingTime)); err != nil {
		return nil, err
	}
	b := make([]byte, len(greeting))
	if _, err := io.ReadFull(conn, b); err != nil {
		return nil, fmt.Errorf("no greeting: %w", err)
	}
	if string(b) != greeting {
		return nil, fmt.Errorf("%w: its greeting is %q", ErrProtocol, b)
	}
	return &Transport{conn: conn}, nil
}

// Do sends one command and waits for its answer.
func (t *Transport) Do(c scsi.Command) (int, error) {
	if err := c.Check(); err != nil {
		return 0, err
	}
	op := scsi.OpcodeOf(c.CDB)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return 0, &scsi.TransportError{Op: op, Err: fmt.Errorf("the device must be opened again after: %w", t.broken)}
	}
	a, err := t.exchange(c)
	if err != nil {
		t.broken = err
		return 0, &scsi.TransportError{Op: op, Timeout: errors.Is(err, os.ErrDeadlineExceeded), Err: err}
	}
	return a.moved, a.err(op)
}

func (t *Transport) exchange(c scsi.Command) (answer, error) {
	if err := t.conn.SetDeadline(time.Now().Add(c.Timeout + grace)); err != nil {
		return answer{}, err
	}
	t.buf = appendRequest(t.buf[:0], c)
	out := net.Buffers{t.buf}
	if c.Dir == scsi.Out {
		out = append(out, c.Data)
	}
	if _, err := out.WriteTo(t.conn); err != nil {
		return answer{}, err
	}
	a, err := readAnswer(t.conn, len(c.Data))
	if err != nil {
		return answer{}, err
	}
	if c.Dir == scsi.In {
		if _, err := io.ReadFull(t.conn, c.Data[:a.moved]); err != nil {
			return answer{}, err
		}
	}
	return a, nil
}

// Close waits for the running command and ends the connection.
func (t *Transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if errors.Is(t.broken, os.ErrClosed) {
		return nil
	}
	t.broken = os.ErrClosed
	return t.conn.Close()
}
