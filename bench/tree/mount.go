//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/bench/measure"
)

// mount is a tool's mount in the foreground.
type mount struct {
	at   string
	cmd  *exec.Cmd
	said bytes.Buffer
	done chan error
}

func startMount(ctx context.Context, c measure.Command, at string) (*mount, error) {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return nil, err
	}
	m := &mount{at: at, cmd: exec.CommandContext(ctx, c.Args[0], c.Args[1:]...), done: make(chan error, 1)}
	m.cmd.Env, m.cmd.Dir = append(os.Environ(), c.Env...), c.Dir
	m.cmd.Stdout, m.cmd.Stderr = &m.said, &m.said
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { m.done <- m.cmd.Wait() }()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		if isMounted(at) {
			return m, nil
		}
		select {
		case err := <-m.done:
			return nil, fmt.Errorf("%s: ended without a mount: %w: %s", strings.Join(c.Args, " "), errors.Join(err), m.said.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_, err := m.stop()
			return nil, errors.Join(fmt.Errorf("%s: no mount after two minutes", strings.Join(c.Args, " ")), err)
		}
	}
}

func isMounted(at string) bool {
	var own, parent unix.Stat_t
	return unix.Stat(at, &own) == nil && unix.Stat(filepath.Dir(at), &parent) == nil && own.Dev != parent.Dev
}

// stop unmounts, and returns the most memory that the process had.
func (m *mount) stop() (rss int64, err error) {
	err = unix.Unmount(m.at, 0)
	for range 50 { // a reader's last descriptor may be closing
		if !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(100 * time.Millisecond)
		err = unix.Unmount(m.at, 0)
	}
	if err != nil {
		_ = unix.Unmount(m.at, unix.MNT_DETACH)
	}
	select {
	case <-m.done:
	case <-time.After(5 * time.Second):
		_ = m.cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-m.done:
		case <-time.After(20 * time.Second):
			_ = m.cmd.Process.Kill()
			<-m.done
		}
	}
	if ru, ok := m.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		rss = ru.Maxrss << 10
	}
	return rss, err
}

const catSkip = 16 << 20

// cat reads a file from catSkip on, after everything before it, and returns how
// long that took.
func cat(name string) (seconds float64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	buf := make([]byte, 1<<20)
	if _, err := io.CopyBuffer(io.Discard, onlyReader{io.LimitReader(f, catSkip)}, buf); err != nil {
		return 0, err
	}
	begin := time.Now()
	n, err := io.CopyBuffer(onlyWriter{io.Discard}, onlyReader{f}, buf)
	if err == nil && n != bigSize-catSkip {
		err = fmt.Errorf("%s: %d bytes", name, n+catSkip)
	}
	return time.Since(begin).Seconds(), err
}

// onlyReader and onlyWriter keep io.CopyBuffer to the buffer that it is given.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)
