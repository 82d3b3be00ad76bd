package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/proto/front"
	"github.com/holdfast-backup/holdfast/internal/server/api"
)

// DefaultPort is where clients look for a server.
const DefaultPort = 8007

// Serve serves on a listener until ctx ends, and closes the server then: see Close.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    48 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	var background sync.WaitGroup
	sampling, stopSampling := context.WithCancel(ctx)
	defer stopSampling()
	background.Go(func() { s.sample(sampling) })
	background.Go(func() { s.schedule.Run(sampling) })
	served := make(chan error, 1)
	go func() {
		served <- srv.Serve(front.NewListener(limit(s.figures.Listener(l), s.opt.Limits), s.certificate.TLS()))
	}()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
		s.log.Info("stopping: sessions and tasks have time to finish", "grace", s.opt.Grace.String())
	}
	grace, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), s.opt.Grace, errStopping)
	defer cancel()
	stopSampling()
	background.Wait()
	closed := make(chan error, 1)
	go func() { closed <- s.Close(grace) }()
	if serr := srv.Shutdown(grace); serr != nil { // requests that take too long
		serr = srv.Close()
		err = errors.Join(err, serr)
	}
	return errors.Join(err, <-closed)
}

// Alive returns when nothing in the server hangs: its locks can be had.
func (s *Server) Alive() {
	s.mu.Lock()
	_ = s.stopping
	s.mu.Unlock()
	_, _ = s.stores.List() // a file that cannot be read is another matter
}

// openAPI answers with the description of all calls.
func (s *Server) openAPI(w http.ResponseWriter, _ *api.Request) error {
	b, err := s.OpenAPI()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(b)
	return err
}

// OpenAPI is the description of all calls as a JSON document.
func (s *Server) OpenAPI() ([]byte, error) {
	b, err := json.MarshalIndent(s.table.OpenAPI("Holdfast backup server", s.opt.Version), "", "  ")
	return append(b, '\n'), err
}

// Describe is OpenAPI without a server.
func Describe(version string) ([]byte, error) {
	s := &Server{opt: Options{Version: version}}
	s.table = s.calls()
	return s.OpenAPI()
}
