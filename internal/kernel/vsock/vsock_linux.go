package vsock

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Numbers of machines.
const (
	Local = unix.VMADDR_CID_LOCAL // this system itself, where vsock_loopback is loaded
	Any   = unix.VMADDR_CID_ANY   // to listen for everybody
	First = 1 << 16               // of those that machines here get: below are those of others
)

// Device opens the host's end of the device of a new machine.
func Device() (*os.File, error) {
	return os.OpenFile("/dev/vhost-vsock", os.O_RDWR, 0)
}

// Listener takes calls.
type Listener struct{ fd int }

func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("vsock: %w", err)
	}
	return fd, nil
}

// Listen waits for calls to a port of this system.
func Listen(port uint32) (*Listener, error) {
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	if err = unix.Bind(fd, &unix.SockaddrVM{CID: Any, Port: port}); err == nil {
		err = unix.Listen(fd, 8)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("vsock: listen on port %d: %w", port, err)
	}
	return &Listener{fd}, nil
}

// Accept waits for the next call.
func (l *Listener) Accept() (*os.File, error) {
	for {
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("vsock: accept: %w", err)
		}
		return os.NewFile(uintptr(fd), "vsock"), nil
	}
}

// Close ends it, but for an Accept that waits.
func (l *Listener) Close() error { return unix.Close(l.fd) }

// Dial calls a port of a machine until it answers or ctx ends.
func Dial(ctx context.Context, cid, port uint32) (*os.File, error) {
	for {
		f, err := dial(cid, port)
		if err == nil {
			return f, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("vsock: call port %d of %d: %w", port, cid, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// callWait bounds one attempt: a machine that is not there does not answer.
const callWait = 2 // seconds

func dial(cid, port uint32) (*os.File, error) {
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptTimeval(fd, unix.AF_VSOCK, unix.SO_VM_SOCKETS_CONNECT_TIMEOUT, &unix.Timeval{Sec: callWait}) // 2 s is the usual
	if err = unix.Connect(fd, &unix.SockaddrVM{CID: cid, Port: port}); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "vsock"), nil
}
