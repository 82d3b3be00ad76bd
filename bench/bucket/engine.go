//go:build linux

package main

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// The keys of the engine, and its one bucket.
const (
	accessKey = "bench"
	secretKey = "secret-of-the-bench"
	bucket    = "backups"
)

// engine is a versitygw that runs.
type engine struct {
	*measure.Server
	addr string
}

// startEngine starts one whose buckets are the directories in dir.
func startEngine(ctx context.Context, program, dir string) (*engine, error) {
	addr, err := measure.FreePort()
	if err != nil {
		return nil, err
	}
	s, err := measure.Command{
		Args: []string{program, "--port", addr, "--keep-alive", "--quiet", "posix", dir},
		Env:  []string{"ROOT_ACCESS_KEY=" + accessKey, "ROOT_SECRET_KEY=" + secretKey},
	}.Serve(ctx, "tcp", addr)
	return &engine{s, addr}, err
}

// stop ends it, by force if connections that are open keep it.
func (e *engine) stop() { _ = e.Stop(5 * time.Second) }
