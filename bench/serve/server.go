//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// server is a program that serves an NBD export until it is stopped.
type server struct{ *measure.Server }

// serve starts a server and waits until its socket takes connections.
func serve(ctx context.Context, socket string, args ...string) (*server, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	v, err := measure.Command{Args: args}.Serve(ctx, "unix", socket)
	return &server{v}, err
}

// stop ends the server and returns after it is gone.
func (v *server) stop() error { return v.Stop(20 * time.Second) }

// Servers by name: what a comparison has in its columns.

func (s *site) holdfastServes(ctx context.Context, archive, cache string) (*server, error) {
	return serve(ctx, s.socket("holdfast"), append([]string{s.holdfast},
		s.args("nbd", "serve", "vm/bench", archive, "--socket", s.socket("holdfast"), "--cache", cache)...)...)
}

func (s *site) memoryServes(ctx context.Context) (*server, error) {
	v, err := serve(ctx, s.socket("nbdkit"), "nbdkit", "-f", "-U", s.socket("nbdkit"), "memory", strconv.Itoa(noiseSize))
	if err != nil {
		return nil, err
	}
	if _, err := output(ctx, "nbdcopy", s.noise, s.uri("nbdkit")); err != nil {
		return nil, errors.Join(err, v.stop())
	}
	return v, nil
}

func (s *site) nbdkitServes(ctx context.Context, file string) (*server, error) {
	return serve(ctx, s.socket("nbdkit"), "nbdkit", "-f", "-r", "-U", s.socket("nbdkit"), "file", file)
}

func (s *site) qemuServes(ctx context.Context, file string) (*server, error) {
	return serve(ctx, s.socket("qemu"), "qemu-nbd", "-r", "-f", "raw", "-t", "-e", "16", "-k", s.socket("qemu"), file)
}
