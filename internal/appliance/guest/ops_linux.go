package guest

import (
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

	"github.com/holdfast-backup/holdfast/internal/appliance/wire"
)

// outputWait is how long output is read on after a command has ended, when
// something that it left behind still holds it open.
const outputWait = 2 * time.Second

// answer does what a stream was opened for.
func answer(st *wire.Stream) (wire.Result, error) {
	r := st.Request
	switch r.Op {
	case wire.OpRun:
		return run(st)
	case wire.OpPut:
		return wire.Result{}, put(st.Reader(wire.In), r.Path, os.FileMode(r.Mode).Perm())
	case wire.OpGet:
		return wire.Result{}, get(st)
	case wire.OpMount:
		return wire.Result{}, mount(r.Source, r.Path, r.FSType, uintptr(r.Flags), r.Data)
	case wire.OpUnmount:
		if err := unix.Unmount(r.Path, 0); err != nil {
			return wire.Result{}, fmt.Errorf("unmount %s: %w", r.Path, err)
		}
		return wire.Result{}, nil
	case wire.OpLoad:
		if failed := loadModules(r.Modules); failed != nil {
			return wire.Result{}, errors.New(strings.Join(failed, "; "))
		}
		return wire.Result{}, nil
	case wire.OpPing:
		return wire.Result{}, nil
	case wire.OpPowerOff:
		unix.Sync()
		return wire.Result{}, errPowerOff
	}
	return wire.Result{}, fmt.Errorf("the guest knows no operation %q", r.Op)
}

// run runs a command to its end. Its outputs end before the result.
func run(st *wire.Stream) (wire.Result, error) {
	r := st.Request
	if len(r.Args) == 0 {
		return wire.Result{}, errors.New("no command")
	}
	out, serr := st.Writer(wire.Out), st.Writer(wire.Err)
	cmd := exec.CommandContext(st.Context(), r.Args[0], r.Args[1:]...)
	cmd.Env = append(os.Environ(), r.Env...)
	cmd.Dir = r.Dir
	cmd.Stdout, cmd.Stderr = out, serr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = outputWait
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return wire.Result{}, err
	}
	if err := cmd.Start(); err != nil {
		return wire.Result{}, err
	}
	spareMe(cmd.Process.Pid, "0") // children have it from the agent
	// Not waited for: it ends with the stream, which ends with the command.
	go func() {
		_, _ = io.Copy(stdin, st.Reader(wire.In))
		_ = stdin.Close()
		st.Drop(wire.In)
	}()
	err = cmd.Wait()
	return exit(cmd.ProcessState, err)
}

func exit(p *os.ProcessState, err error) (wire.Result, error) {
	if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return wire.Result{Code: -1, Signal: ws.Signal().String()}, nil
	}
	if _, failed := errors.AsType[*exec.ExitError](err); failed || errors.Is(err, exec.ErrWaitDelay) ||
		errors.Is(err, context.Canceled) {
		err = nil
	}
	return wire.Result{Code: p.ExitCode()}, err
}

// put writes a file, which has its name only when it is complete.
func put(r io.Reader, name string, mode os.FileMode) (err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".put-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, r); err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

func get(st *wire.Stream) error {
	f, err := os.Open(st.Request.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(st.Writer(wire.Out), f); err != nil {
		return fmt.Errorf("get %s: %w", st.Request.Path, err)
	}
	return st.Writer(wire.Out).Close()
}
