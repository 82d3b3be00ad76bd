package share

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/scsi/socket"
	"github.com/holdfast-backup/holdfast/internal/scsi/vtl"
)

const (
	maxRequest  = 64 << 10
	requestTime = 10 * time.Second // for the line of a request to come
	maxRequests = 16               // at a time
)

// Server serves a library.
type Server struct {
	lib       *vtl.Library
	operator  net.Listener
	listeners []net.Listener // of the units, in their order
}

// Listen makes the sockets of a library that this process has open.
func Listen(dir string, l *vtl.Library) (*Server, error) {
	s := &Server{lib: l}
	var err error
	for _, u := range l.Units() {
		var at net.Listener
		if at, err = listen(filepath.Join(dir, u.Name)); err != nil {
			break
		}
		s.listeners = append(s.listeners, at)
	}
	if err == nil {
		s.operator, err = listen(filepath.Join(dir, operatorSocket))
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// listen makes a socket. What lies there is of a server that is gone: this process
// has the library's lock.
func listen(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("%s is no socket, and one is to be there", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (s *Server) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	if s.operator != nil {
		_ = s.operator.Close()
	}
}

// Serve serves until ctx ends, and returns when all requests did. log hears why a
// connection ended that should not have.
func (s *Server) Serve(ctx context.Context, log func(error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	run := func(f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				mu.Lock()
				failed = append(failed, err)
				mu.Unlock()
				cancel(err) // one socket less is no library
			}
		})
	}
	for i, u := range s.lib.Units() {
		run(func() error { return socket.Serve(ctx, s.listeners[i], u, log) })
	}
	run(func() error { return s.serveOperators(ctx, log) })
	wg.Wait()
	return errors.Join(failed...)
}

func (s *Server) serveOperators(ctx context.Context, log func(error)) error {
	stop := context.AfterFunc(ctx, func() { _ = s.operator.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, maxRequests)
	for {
		conn, err := s.operator.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serve %s: %w", s.operator.Addr(), err)
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := s.answer(conn); err != nil && ctx.Err() == nil && log != nil {
				log(err)
			}
		})
	}
}

// answer serves one request.
func (s *Server) answer(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(requestTime)); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxRequest)).ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) == 0: // somebody looked whether anybody is here
		return nil
	case err != nil:
		return fmt.Errorf("an operator's request: %w", err)
	}
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("an operator's request: %w", err)
	}
	var a Answer
	if a.Cartridges, err = do(s.lib, r); err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(conn).Encode(a)
}

func do(l Operator, r Request) ([]vtl.Info, error) {
	switch r.Do {
	case "list":
		return l.Cartridges()
	case "add":
		if r.New == nil {
			return nil, errors.New("no cartridge is described")
		}
		return nil, l.AddCartridge(*r.New)
	case "import":
		return nil, l.Import(r.Name)
	case "export":
		return nil, l.Export(r.Name)
	case "insert":
		return nil, l.Insert(r.Drive, r.Name)
	case "eject":
		return nil, l.Eject(r.Drive)
	case "delete":
		return nil, l.Delete(r.Name)
	}
	return nil, fmt.Errorf("%q is nothing that can be done to a library", r.Do)
}
