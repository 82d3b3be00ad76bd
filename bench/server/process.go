//go:build linux

package main

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// process is a backup server that runs.
type process struct {
	*measure.Server
	addr string
}

// serve starts a server on a free port and waits until it listens.
func (s *site) serve(ctx context.Context) (*process, error) {
	addr, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	v, err := measure.Command{
		Args: []string{s.Holdfast, "server", "run", "--listen", addr, "--config", s.path("conf"), "--log-dir", s.path("log")},
	}.Serve(ctx, "tcp", addr)
	return &process{v, addr}, err
}

// stop ends the server and returns after it is gone.
func (p *process) stop() error { return p.Stop(20 * time.Second) }
