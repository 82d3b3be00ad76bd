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

// The keys of the engine, and its one bucket.
const (
	accessKey = "bench"
	secretKey = "secret-of-the-bench"
	bucket    = "backups"
)

// engine is a versitygw that runs.
type engine struct {
	cmd  *exec.Cmd
	addr string
	said bytes.Buffer
	done chan error
}

// startEngine starts one whose buckets are the directories in dir, and waits until it
// listens.
func startEngine(ctx context.Context, program, dir string) (*engine, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	e := &engine{addr: l.Addr().String(), done: make(chan error, 1)}
	if err := l.Close(); err != nil {
		return nil, err
	}
	e.cmd = exec.CommandContext(ctx, program, "--port", e.addr, "--keep-alive", "--quiet", "posix", dir)
	e.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	e.cmd.Stdout, e.cmd.Stderr = &e.said, &e.said
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { e.done <- e.cmd.Wait() }()
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", e.addr)
		if err == nil {
			return e, c.Close()
		}
		select {
		case err := <-e.done:
			return nil, fmt.Errorf("versitygw: %w: %s", err, e.said.String())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(errors.New("versitygw: it does not listen after 30 s"), e.stop())
		}
	}
}

// stop ends it and returns after it is gone.
func (e *engine) stop() error {
	_ = e.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.done:
		return nil
	case <-time.After(5 * time.Second): // connections that are open may keep it
		_ = e.cmd.Process.Kill()
		<-e.done
		return nil
	}
}

// processor is how many seconds of processor time it has had.
func (e *engine) processor() (float64, error) {
	const ticks = 100 // a second, in what Linux tells processes
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", e.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), ") ") // behind the name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat: %q", b)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	system, serr := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks, errors.Join(err, serr)
}
