//go:build linux

package measure

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

// Server is a program that runs until it is stopped.
type Server struct {
	name string
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan error
}

// FreePort is an address of this machine at which nobody listens.
func FreePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// Serve starts the command and returns when it takes connections at an address.
func (c Command) Serve(ctx context.Context, network, address string) (*Server, error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env, cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	s := &Server{name: strings.Join(c.Args, " "), cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &s.said, &s.said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() { s.done <- cmd.Wait() }()
	for deadline := time.Now().Add(30 * time.Second); ; {
		conn, err := net.Dial(network, address)
		if err == nil {
			_ = conn.Close() // it has said what was asked
			return s, nil
		}
		select {
		case err := <-s.done:
			return nil, fmt.Errorf("%s: %w: %s", s.name, err, tail(s.said.Bytes()))
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s: it does not listen after 30 s", s.name), s.Stop(20*time.Second))
		}
	}
}

// Stop ends it and returns after it is gone. It fails if it had to be killed, because it
// took longer than that.
func (s *Server) Stop(most time.Duration) error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
		return nil
	case <-time.After(most):
		_ = s.cmd.Process.Kill()
		<-s.done
		return fmt.Errorf("%s: it did not end in %v", s.name, most)
	}
}

// Processor is how many seconds of processor time it has had.
func (s *Server) Processor() (float64, error) {
	const ticks = 100 // a second, in what Linux tells processes
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
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

// Memory is a line of its status, in bytes: VmRSS, or VmHWM for the most so far.
func (s *Server) Memory(line string) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), line+":")
	value, _, _ := strings.Cut(rest, "kB")
	kib, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	return kib << 10, err
}
