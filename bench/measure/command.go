//go:build linux

package measure

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

// Command is one process to run: its arguments, what it adds to the
// environment, and its working directory.
type Command struct {
	Args []string
	Env  []string
	Dir  string
}

// Cost is what the kernel says a process took, its children included.
type Cost struct {
	Seconds float64 `json:"seconds"` // wall
	CPU     float64 `json:"cpu"`     // user and system, seconds
	RSS     int64   `json:"rss"`     // peak, bytes
}

// Run executes the command and returns its standard output.
func (c Command) Run(ctx context.Context) (out []byte, used Cost, err error) {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), c.Env...)
	cmd.Dir = c.Dir
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
		err = fmt.Errorf("%s: %w: %s", strings.Join(c.Args, " "), err, strings.TrimSpace(tail(append(stdout.Bytes(), stderr.Bytes()...))))
	}
	return stdout.Bytes(), used, err
}

// Synced is the command and then a file's way to the disk, as Holdfast sees to by itself.
func (c Command) Synced(file string) Command {
	c.Args = append([]string{"sh", "-c", `"$@" && sync "$0"`, file}, c.Args...)
	return c
}

// tail is the end of what a program said.
func tail(b []byte) string {
	return string(b[max(0, len(b)-600):])
}
