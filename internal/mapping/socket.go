package mapping

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/holdfast-backup/holdfast/internal/kernel/holders"
	"github.com/holdfast-backup/holdfast/internal/proto/nbd/nbdserver"
)

// exported is mode socket: an NBD server on a unix socket.
type exported struct {
	srv    *nbdserver.Server
	path   string
	cancel context.CancelFunc
	ended  chan struct{}
	reason error // of the server's end; read after ended
}

func (m *Mapping) attachSocket() (backend, error) {
	path := m.spec.Device
	if path == "" {
		path = filepath.Join(m.dir, m.rec.ID+".nbd")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := nbdserver.ClearSocket(path); err != nil {
		return nil, err
	}
	m.rec.Socket = path
	if err := m.note("socket"); err != nil {
		return nil, err
	}
	ln, err := nbdserver.ListenUnix(path)
	if err != nil {
		m.rec.Socket = "" // not ours to remove
		return nil, err
	}
	e := &exported{path: path, ended: make(chan struct{}), srv: nbdserver.New(nbdserver.Options{
		Exports: []*nbdserver.Export{{Image: m.spec.Image, ReadOnly: m.rec.ReadOnly, Description: m.rec.Name}},
		Log:     m.spec.Log,
	})}
	ctx, cancel := context.WithCancel(context.Background()) // the mapping's life, which end ends
	e.cancel = cancel
	go func() { // end waits for it
		defer close(e.ended)
		e.reason = e.srv.Serve(ctx, ln)
	}()
	m.spec.stage("listening")
	return e, nil
}

// goneSoon is how long the server may take to see that a client has left.
const goneSoon = time.Second

func (e *exported) holders() ([]holders.Holder, error) {
	n := e.srv.Stats().Connections
	for end := time.Now().Add(goneSoon); n > 0 && time.Now().Before(end); n = e.srv.Stats().Connections {
		time.Sleep(goneSoon / 100)
	}
	if n == 0 {
		return nil, nil
	}
	return []holders.Holder{{Kind: "client", Node: e.path, Where: fmt.Sprintf("%d connections", n)}}, nil
}

func (e *exported) counters() Counters { return serverCounters(e.srv) }

func serverCounters(s *nbdserver.Server) (c Counters) {
	for _, x := range s.Stats().Exports {
		c.Reads += x.Reads
		c.ReadBytes += x.BytesRead
		c.Writes += x.Writes
		c.WriteBytes += x.BytesWritten
		c.Errors += x.Failures
	}
	return c
}

func (e *exported) done() <-chan struct{} { return e.ended }

func (e *exported) err() error {
	if e.reason == nil {
		return errors.New("the server ended")
	}
	return e.reason
}

func (e *exported) end(ctx context.Context, _ bool) error {
	err := e.srv.Shutdown(ctx)
	e.cancel()
	select {
	case <-e.ended:
		return nil
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("the NBD server does not end: %w", context.Cause(ctx)))
	}
}
