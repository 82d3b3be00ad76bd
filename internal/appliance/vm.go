package appliance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/appliance/wire"
)

const (
	// cancelWait is how long a cancelled command may take to end: one that hangs
	// in the guest's kernel does not end at all.
	cancelWait = 5 * time.Second
	// tailLines is how much of the console an error shows.
	tailLines = 15
)

// Cmd is a command to run in the guest.
type Cmd struct {
	Args   []string // a name is looked up on the guest's path
	Env    []string // besides PATH, HOME, TMPDIR and LANG
	Dir    string   // "": /
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Result is how a command ended. The zero value is success.
type Result struct {
	Code   int
	Signal string // not empty: it was killed, and Code is -1
}

// Err is nil for success.
func (r Result) Err() error {
	switch {
	case r.Signal != "":
		return fmt.Errorf("ended by signal: %s", r.Signal)
	case r.Code != 0:
		return fmt.Errorf("exit status %d", r.Code)
	}
	return nil
}

// VM is a running machine. Its methods may be called concurrently.
type VM struct {
	Hello Hello // what the guest said first
	Accel Accel // how it runs

	session  *wire.Session
	port     *wire.Session // that is not used beside the other one; or nil
	later    map[string][]string
	console  *ring
	messages *ring
	kill     func()
	exited   chan struct{} // closed when QEMU has been reaped
	exitErr  error         // valid then
}

// Hello is what a guest says when it is ready.
type Hello = wire.Hello

// Run runs a command to its end. A command that runs and fails is a Result, not
// an error. When ctx ends, the command and all it started are killed.
// Stdin is not read any more once the command has ended, but a read that is
// under way then is not interrupted.
func (vm *VM) Run(ctx context.Context, c Cmd) (Result, error) {
	r, err := vm.request(ctx, wire.Request{Op: wire.OpRun, Args: c.Args, Env: c.Env, Dir: c.Dir},
		c.Stdin, c.Stdout, c.Stderr)
	return Result{Code: r.Code, Signal: r.Signal}, err
}

// Output runs a command and returns what it wrote to its standard output. A
// failure has the end of its standard error.
func (vm *VM) Output(ctx context.Context, args ...string) ([]byte, error) {
	var out, serr bytes.Buffer
	r, err := vm.Run(ctx, Cmd{Args: args, Stdout: &out, Stderr: &serr})
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		b := serr.Bytes()
		return out.Bytes(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(b[max(0, len(b)-2000):]))
	}
	return out.Bytes(), nil
}

// Put writes a file in the guest. It appears under its name when it is complete.
func (vm *VM) Put(ctx context.Context, name string, mode os.FileMode, content io.Reader) error {
	_, err := vm.request(ctx, wire.Request{Op: wire.OpPut, Path: name, Mode: uint32(mode.Perm())}, content, nil, nil)
	return err
}

// Get copies a file of the guest to w.
func (vm *VM) Get(ctx context.Context, name string, w io.Writer) error {
	_, err := vm.request(ctx, wire.Request{Op: wire.OpGet, Path: name}, nil, w, nil)
	return err
}

// Mount mounts in the guest; flags are those of mount(2). The directory is made.
func (vm *VM) Mount(ctx context.Context, source, dir, fstype string, flags uint64, data string) error {
	_, err := vm.request(ctx, wire.Request{
		Op: wire.OpMount, Source: source, Path: dir, FSType: fstype, Flags: flags, Data: data,
	}, nil, nil, nil)
	return err
}

// Unmount undoes Mount.
func (vm *VM) Unmount(ctx context.Context, dir string) error {
	_, err := vm.request(ctx, wire.Request{Op: wire.OpUnmount, Path: dir}, nil, nil, nil)
	return err
}

// Load loads modules of [Config.Later] with what they need.
func (vm *VM) Load(ctx context.Context, names ...string) error {
	for _, n := range names {
		files, ok := vm.later[n]
		if !ok {
			return fmt.Errorf("appliance: module %s was not given to the machine", n)
		}
		if _, err := vm.request(ctx, wire.Request{Op: wire.OpLoad, Modules: files}, nil, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Ping asks the guest for nothing but an answer, which holds its watchdog off.
func (vm *VM) Ping(ctx context.Context) error {
	_, err := vm.request(ctx, wire.Request{Op: wire.OpPing}, nil, nil, nil)
	return err
}

// Console returns the last 64 KiB of the guest's console.
func (vm *VM) Console() string { return vm.console.String() }

// Done is closed when the machine has ended.
func (vm *VM) Done() <-chan struct{} { return vm.exited }

// Close ends the machine at once, as pulling its plug would, and waits for it.
func (vm *VM) Close() error {
	vm.kill()
	<-vm.exited
	_ = vm.session.Close() // its other end is gone
	if vm.port != nil {
		_ = vm.port.Close()
	}
	return nil
}

// Shutdown lets the guest sync its disks and turn its power off. When it does
// not until ctx ends, the machine is closed all the same.
func (vm *VM) Shutdown(ctx context.Context) error {
	_, err := vm.request(ctx, wire.Request{Op: wire.OpPowerOff}, nil, nil, nil)
	if err == nil {
		select {
		case <-vm.exited:
		case <-ctx.Done():
			err = fmt.Errorf("appliance: power off: %w", context.Cause(ctx))
		}
	}
	return errors.Join(err, vm.Close())
}

// request opens a stream, moves its data and waits for the result.
func (vm *VM) request(ctx context.Context, r wire.Request, in io.Reader, out, serr io.Writer) (wire.Result, error) {
	st, err := vm.session.Open(r)
	if err != nil {
		return wire.Result{}, vm.explain(r, err)
	}
	fed := make(chan error, 1)
	go feed(st, in, fed)
	var wg sync.WaitGroup
	var outErr, serrErr error
	wg.Go(func() { outErr = drain(st, wire.Out, out) })
	wg.Go(func() { serrErr = drain(st, wire.Err, serr) })
	res, err := st.Result(ctx)
	if err != nil && ctx.Err() != nil {
		err = vm.stop(ctx, st)
	}
	wg.Wait()
	select {
	case ferr := <-fed:
		if ferr != nil {
			return res, fmt.Errorf("appliance: %s: input: %w", r.Op, ferr)
		}
	default: // it ends with its next read or write
	}
	if werr := errors.Join(outErr, serrErr); werr != nil && err == nil {
		return res, fmt.Errorf("appliance: %s: output: %w", r.Op, werr)
	}
	if err != nil {
		return res, vm.explain(r, err)
	}
	if res.Error != "" {
		return res, fmt.Errorf("appliance: %s in the guest: %s", describe(r), res.Error)
	}
	return res, nil
}

// feed sends the input. An error of the reader cancels the request.
func feed(st *wire.Stream, in io.Reader, done chan<- error) {
	w := st.Writer(wire.In)
	if in == nil {
		in = strings.NewReader("")
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				done <- nil // the stream is over; its result says how
				return
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			done <- nil
			_ = w.Close() // a broken session is known to the reader of the result
			return
		case err != nil:
			done <- err
			_ = st.Cancel()
			return
		}
	}
}

// drain copies an output; where it cannot be written, the request is cancelled.
func drain(st *wire.Stream, c wire.Channel, w io.Writer) error {
	if w == nil {
		w = io.Discard
	}
	_, err := io.Copy(writerOnly{w}, st.Reader(c))
	if err != nil {
		_ = st.Cancel() // harmless when the session broke
	}
	return err
}

type writerOnly struct{ io.Writer }

// stop cancels a request and waits a little for its end.
func (vm *VM) stop(ctx context.Context, st *wire.Stream) error {
	go st.Cancel() //nolint:errcheck // it waits while the guest takes nothing, and ends with the session at last
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelWait)
	defer cancel()
	if _, err := st.Result(wait); err != nil {
		st.Abandon()
		return fmt.Errorf("%w, and it did not end within %v", context.Cause(ctx), cancelWait)
	}
	return context.Cause(ctx)
}

func describe(r wire.Request) string {
	what := r.Path
	if len(r.Args) > 0 {
		what = r.Args[0]
	}
	return strings.TrimSpace(r.Op + " " + what)
}

// explain adds how the machine died, when it did.
func (vm *VM) explain(r wire.Request, err error) error {
	err = fmt.Errorf("appliance: %s: %w", describe(r), err)
	if vm.session.Err() == nil {
		return err
	}
	return vm.postMortem(err)
}

// postMortem adds QEMU's exit and the last lines of what it and the guest said.
func (vm *VM) postMortem(err error) error {
	select {
	case <-vm.exited:
		if vm.exitErr != nil {
			err = fmt.Errorf("%w; QEMU: %w", err, vm.exitErr)
		} else {
			err = fmt.Errorf("%w; the machine has ended", err)
		}
	case <-time.After(time.Second):
	}
	if m := vm.messages.tail(tailLines); m != "" {
		err = fmt.Errorf("%w; QEMU said:\n%s", err, m)
	}
	if c := vm.console.tail(tailLines); c != "" {
		err = fmt.Errorf("%w; the console ends with:\n%s", err, c)
	}
	return err
}
