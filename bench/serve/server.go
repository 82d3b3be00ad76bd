//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a program that serves an NBD export until it is stopped.
type server struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan error
}

// serve starts a server and waits until its socket takes connections.
func serve(ctx context.Context, socket string, args ...string) (*server, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	v := &server{cmd: exec.CommandContext(ctx, args[0], args[1:]...), done: make(chan error, 1)}
	v.cmd.Stdout, v.cmd.Stderr = &v.said, &v.said
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { v.done <- v.cmd.Wait() }()
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return v, c.Close()
		}
		select {
		case err := <-v.done:
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, v.said.String())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s: no socket after 30 s", strings.Join(args, " ")), v.stop())
		}
	}
}

// stop ends the server and returns after it is gone.
func (v *server) stop() error {
	_ = v.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-v.done:
		return nil
	case <-time.After(20 * time.Second):
		_ = v.cmd.Process.Kill()
		<-v.done
		return fmt.Errorf("%s: did not end in 20 s", strings.Join(v.cmd.Args, " "))
	}
}

// peak is the most memory that a process had, in bytes.
func peak(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	line, _, _ := strings.Cut(rest, "kB")
	kib, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	return kib << 10, err
}

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
