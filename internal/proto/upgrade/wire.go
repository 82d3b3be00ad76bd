package upgrade

import (
	"errors"
	"io"
	"net"
	"sync"
)

// wire is the connection below HTTP/2. It hides what kind of connection it is,
// for net/http looks for ALPN in a *tls.Conn, reads first what the HTTP/1 side
// has read too far, and remembers why it ended.
type wire struct {
	net.Conn
	first io.Reader // nil when used up; Read has one caller at a time
	paths *slashes  // between what comes and Read; nil when not needed

	mu     sync.Mutex
	closed bool  // by this side
	err    error // the first one of a read or write before that
}

// newWire returns the connection of a client.
func newWire(conn net.Conn) *wire {
	w := &wire{Conn: conn}
	w.paths = &slashes{r: comes{w}}
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	if w.paths == nil {
		return comes{w}.Read(p)
	}
	n, err := w.paths.Read(p)
	if w.paths.through() {
		w.paths = nil
	}
	if err != nil {
		w.note(err)
	}
	return n, err
}

// comes reads what comes, as it is.
type comes struct{ *wire }

func (w comes) Read(p []byte) (int, error) {
	if w.first != nil {
		n, err := w.first.Read(p)
		if n > 0 {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, err
		}
		w.first = nil
	}
	n, err := w.Conn.Read(p)
	w.note(err)
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.note(err)
	return n, err
}

func (w *wire) note(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.closed {
		w.err = err
	}
}

func (w *wire) Close() error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	return w.Conn.Close()
}

// ended returns why the connection ended, nil when this side closed it.
func (w *wire) ended() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
