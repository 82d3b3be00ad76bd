package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/holdfast-backup/holdfast/internal/scsi"
	"github.com/holdfast-backup/holdfast/internal/scsi/target"
)

const (
	maxClients = 64
	keptBuffer = 1 << 20 // what a connection keeps between commands
)

// Serve gives a unit to whoever connects, until ctx ends; then it returns nil,
// after the commands that run. Other errors are those of the listener, which is
// closed in any case. log hears why a connection ended that should not have;
// nil: nobody does.
func Serve(ctx context.Context, l net.Listener, u target.Unit, log func(error)) error {
	if log == nil {
		log = func(error) {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel() // the clients' connections end with it
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() { _ = l.Close() }()
	slots := make(chan struct{}, maxClients)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		clients.Go(func() {
			defer func() { <-slots }()
			if err := serveClient(ctx, conn, u); err != nil && ctx.Err() == nil {
				log(err)
			}
		})
	}
}

// serveClient carries out the commands of one connection.
func serveClient(ctx context.Context, conn net.Conn, u target.Unit) error {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := io.WriteString(conn, greeting); err != nil {
		return err
	}
	var head [requestSize]byte
	var buf, out []byte
	for {
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil // between two commands
			}
			return err
		}
		c, length, err := parseRequest(head[:])
		if err != nil {
			return err
		}
		if len(buf) < length {
			buf = make([]byte, length)
		}
		c.Data = buf[:length]
		if c.Dir == scsi.Out {
			if _, err := io.ReadFull(conn, c.Data); err != nil {
				return err
			}
		}
		n, err := target.Run(u, c)
		a := answerOf(n, err)
		out = appendAnswer(out[:0], a)
		parts := net.Buffers{out}
		if c.Dir == scsi.In {
			parts = append(parts, c.Data[:a.moved])
		}
		if _, err := parts.WriteTo(conn); err != nil {
			return err
		}
		if len(buf) > keptBuffer {
			buf = nil
		}
	}
}
