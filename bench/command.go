//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// command is one process to run: its arguments, what it adds to the
// environment, and its working directory.
type command struct {
	args []string
	env  []string
	dir  string
}

// cost is what the kernel says a process took, its children included.
type cost struct {
	Seconds float64 `json:"seconds"` // wall
	CPU     float64 `json:"cpu"`     // user and system, seconds
	RSS     int64   `json:"rss"`     // peak, bytes
}

// run executes the command and returns its standard output.
func (c command) run(ctx context.Context) (out []byte, used cost, err error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), c.env...)
	cmd.Dir = c.dir
	cmd.WaitDelay = 10 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err = cmd.Run()
	used.Seconds = time.Since(start).Seconds()
	if s := cmd.ProcessState; s != nil {
		used.CPU = (s.UserTime() + s.SystemTime()).Seconds()
		if ru, ok := s.SysUsage().(*syscall.Rusage); ok {
			used.RSS = ru.Maxrss << 10
		}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(c.args, " "), err, strings.TrimSpace(tail(append(stdout.Bytes(), stderr.Bytes()...), 600)))
	}
	return stdout.Bytes(), used, err
}
