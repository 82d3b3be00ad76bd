package appliance

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast/internal/appliance/guest"
	"github.com/holdfast-backup/holdfast/internal/appliance/wire"
	"github.com/holdfast-backup/holdfast/internal/kernel/vsock"
)

// Start builds the guest's file system, runs QEMU and waits until the agent in
// the guest is ready. ctx bounds the start only: the machine runs until
// [VM.Close], or until this process ends.
func Start(ctx context.Context, c Config) (*VM, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	p, err := platformOf(c.Arch)
	if err != nil {
		return nil, err
	}
	qemu, err := p.findQEMU(c.QEMU)
	if err != nil {
		return nil, err
	}
	if c.Vsock && vsockHere() {
		c.call = &call{cid: vsock.First + rand.Uint32N(1<<30), token: crand.Text()}
		vm, err := c.start(ctx, p, qemu)
		if err == nil || ctx.Err() != nil {
			return vm, err
		}
		c.call = nil // the device, or its number, may be why
	}
	return c.start(ctx, p, qemu)
}

// vsockHere reports whether this process may give a machine the device.
func vsockHere() bool {
	f, err := vsock.Device()
	if err != nil {
		return false
	}
	return f.Close() == nil
}

func (c Config) start(ctx context.Context, p platform, qemu string) (*VM, error) {
	rd, err := c.buildInitrd()
	if err != nil {
		return nil, err
	}
	defer rd.file.Close()
	if c.Accel != AccelAuto {
		return c.boot(ctx, qemu, rd, c.Accel, 0)
	}
	var kvmErr error
	if p.arch == runtime.GOARCH && tryKVM() {
		vm, err := c.boot(ctx, qemu, rd, AccelKVM, c.KVMWait)
		if err == nil || ctx.Err() != nil {
			return vm, err
		}
		kvmErr = err
	}
	vm, err := c.boot(ctx, qemu, rd, AccelTCG, 0)
	switch {
	case err != nil && kvmErr != nil:
		return nil, fmt.Errorf("%w\nbefore that, with KVM: %w", err, kvmErr)
	case err == nil && kvmErr != nil:
		rememberKVMFails() // the machine itself is sound
	}
	return vm, err
}

// boot starts QEMU and waits for the guest: at most firstSign for its first
// program, where that is not zero.
func (c Config) boot(ctx context.Context, qemu string, rd *initrd, accel Accel, firstSign time.Duration) (*VM, error) {
	args, err := c.arguments(accel)
	if err != nil {
		return nil, err
	}
	host, inner, err := socketPair()
	if err != nil {
		return nil, err
	}
	vm := &VM{
		Accel: accel, later: rd.later, exited: make(chan struct{}),
		console: newRing(consoleKeep, guest.Ready), messages: newRing(messagesKeep, ""),
	}
	cmd := exec.Command(qemu, args...)
	cmd.Stdout, cmd.Stderr = vm.console, vm.messages
	kernel, err := c.openKernel()
	if err != nil {
		return nil, errors.Join(err, host.Close(), inner.Close())
	}
	defer kernel.Close()
	cmd.ExtraFiles = []*os.File{inner, rd.file, kernel}
	if c.call != nil {
		f, err := vsock.Device()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("appliance: vsock: %w", err), host.Close(), inner.Close())
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	for _, d := range c.Drives {
		if d.Dial == nil {
			continue
		}
		f, err := d.Dial()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("appliance: drive %s: %w", d.Export, err), host.Close(), inner.Close())
		}
		defer f.Close() //nolint:gocritic // at most MaxDrives, and QEMU has its own by then
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if u := c.User; u != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	cmd.Dir = "/"
	err = vm.supervise(cmd)
	_ = inner.Close() // QEMU's copy is the only one: its death ends the session
	if err != nil {
		_ = host.Close()
		return nil, fmt.Errorf("appliance: start %s: %w", qemu, err)
	}
	vm.session = wire.Dial(host)
	if err := vm.await(ctx, c.BootWait, firstSign); err != nil {
		vm.kill()
		<-vm.exited
		_ = vm.session.Close()
		return nil, vm.postMortem(fmt.Errorf("appliance (%s): %w", accel, err))
	}
	if c.call != nil {
		vm.widen(ctx, *c.call)
	}
	return vm, nil
}

// widenWait is how long the guest may take to answer through vsock.
const widenWait = 3 * time.Second

// widen has requests go through vsock. Where that does not work they go through the port.
func (vm *VM) widen(ctx context.Context, c call) {
	ctx, cancel := context.WithTimeout(ctx, widenWait)
	defer cancel()
	f, err := vsock.Dial(ctx, c.cid, guest.VsockPort)
	if err != nil {
		return
	}
	if _, err := io.WriteString(f, c.token); err != nil {
		_ = f.Close()
		return
	}
	s := wire.Dial(f)
	if _, err := s.Hello(ctx); err != nil {
		_ = s.Close()
		return
	}
	vm.port, vm.session = vm.session, s
}

// openKernel opens the kernel's image, as a copy that everybody may read where it is kept for
// root and QEMU is somebody else.
func (c Config) openKernel() (_ *os.File, err error) {
	f, err := os.Open(c.Kernel.Image)
	if err != nil {
		return nil, fmt.Errorf("appliance: kernel: %w", err)
	}
	st, err := f.Stat()
	if err != nil || c.User == nil || st.Mode()&0o004 != 0 {
		return f, err
	}
	defer f.Close()
	tmp, err := unnamed()
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(tmp, f); err != nil {
		return nil, errors.Join(fmt.Errorf("appliance: kernel: %w", err), tmp.Close())
	}
	return tmp, nil
}

// unnamed makes a file without a name that everybody may read who has a descriptor.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "holdfast-appliance-*")
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	if err := errors.Join(os.Remove(f.Name()), f.Chmod(0o444)); err != nil {
		return nil, errors.Join(fmt.Errorf("appliance: %w", err), f.Close())
	}
	return f, nil
}

// await waits for the guest's hello.
func (vm *VM) await(ctx context.Context, limit, firstSign time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest is not ready after %v", limit))
	defer cancel()
	if firstSign > 0 {
		select {
		case <-vm.console.seen:
		case <-vm.session.Done(): // Hello says it better
		case <-ctx.Done():
		case <-time.After(firstSign):
			return fmt.Errorf("no sign of life from the guest in %v", firstSign)
		}
	}
	var err error
	vm.Hello, err = vm.session.Hello(ctx)
	if err != nil && vm.session.Err() != nil {
		return errors.New("the machine ended before its agent was ready")
	}
	return err
}

// supervise starts QEMU and reaps it. The child dies with the thread that
// started it, so that thread stays to wait for it.
func (vm *VM) supervise(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		vm.exitErr = cmd.Wait()
		close(vm.exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	vm.kill = func() { _ = cmd.Process.Kill() } // it has ended already, then
	return nil
}

// socketPair returns the two ends of the control channel: one for this process
// and one to hand to QEMU.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("appliance: control channel: %w", err)
	}
	outer, inner := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	conn, err := net.FileConn(outer)
	_ = outer.Close()
	if err != nil {
		_ = inner.Close()
		return nil, nil, fmt.Errorf("appliance: control channel: %w", err)
	}
	return conn, inner, nil
}
