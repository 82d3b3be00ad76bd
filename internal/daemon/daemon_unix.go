//go:build unix

package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Background runs this program again, with the arguments that it has, and
// returns 0 when the child is ready, or the exit code with which it ended
// before. keep lists further descriptors that the child needs under the same
// numbers. When ctx ends first, the child is told to end too.
func Background(ctx context.Context, keep ...int) (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("start the background process: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start the background process: %w", err)
	}
	defer func() { _ = r.Close() }()
	files, at := descriptors(w, keep)
	env := append(os.Environ(), fmt.Sprintf("%s=%d", variable, at))
	p, err := os.StartProcess(self, os.Args, &os.ProcAttr{Env: env, Files: files})
	_ = w.Close()
	if err != nil {
		return 0, fmt.Errorf("start the background process: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(syscall.SIGTERM) })
	defer stop()
	var ready [1]byte
	if n, _ := r.Read(ready[:]); n == 1 {
		return 0, p.Release()
	}
	state, err := p.Wait()
	if err != nil {
		return 0, fmt.Errorf("wait for the background process: %w", err)
	}
	if code = state.ExitCode(); code <= 0 { // a signal, or the pipe was closed without a word
		return 0, fmt.Errorf("the background process ended before it was ready: %w", &exec.ExitError{ProcessState: state})
	}
	return code, nil
}

// descriptors puts the standard streams, keep and w at their numbers; w gets
// the first free one.
func descriptors(w *os.File, keep []int) (files []*os.File, at int) {
	files = []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for _, fd := range keep {
		if fd < len(files) && files[fd] != nil || fd < 0 {
			continue
		}
		for len(files) <= fd {
			files = append(files, nil)
		}
		files[fd] = os.NewFile(uintptr(fd), "inherited")
	}
	if at = slices.Index(files, nil); at < 0 {
		at, files = len(files), append(files, nil)
	}
	files[at] = w
	return files, at
}

// Ready takes the process away from the terminal and lets the parent end.
// Standard input and output become /dev/null; standard error becomes log, or
// /dev/null when that is nil. The working directory becomes the root.
func (c *Child) Ready(log *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	defer func() { _ = null.Close() }()
	if _, err := unix.Setsid(); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: it leads a session already
		return fmt.Errorf("go to the background: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	if log == nil {
		log = null
	}
	for fd, f := range []*os.File{null, null, log} {
		if err := replace(f, fd); err != nil {
			return fmt.Errorf("go to the background: %w", err)
		}
	}
	defer func() { _ = c.pipe.Close() }()
	if _, err := c.pipe.Write([]byte{1}); err != nil {
		return fmt.Errorf("go to the background: the command that waits is gone: %w", err)
	}
	return nil
}
