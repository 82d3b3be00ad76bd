package nbdattach

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Requests of drivers/block/nbd.c: _IO(0xab, n).
const (
	setSock       = 0xab00
	setBlockSize  = 0xab01
	doIt          = 0xab03
	clearSock     = 0xab04
	clearQueue    = 0xab05
	setSizeBlocks = 0xab07
	disconnectNow = 0xab08
	setTimeout    = 0xab09
	setFlags      = 0xab0a
)

// claim runs the old way: every ioctl up to DO_IT must come from one thread.
// The returned channel carries what DO_IT returned.
func claim(o Options) (index int, end <-chan error, err error) {
	type result struct {
		index int
		err   error
	}
	ready, done := make(chan result, 1), make(chan error, 1)
	go func() { // ends with the connection; Detach waits for it
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		index, fd, err := claimOne(o)
		ready <- result{index, err}
		if err != nil {
			return
		}
		defer func() { _ = unix.Close(fd) }()
		err = unix.IoctlSetInt(fd, doIt, 0)
		_ = unix.IoctlSetInt(fd, clearQueue, 0)
		_ = unix.IoctlSetInt(fd, clearSock, 0)
		done <- err
	}()
	r := <-ready
	return r.index, done, r.err
}

func claimOne(o Options) (index, fd int, err error) {
	if o.Index != AnyIndex {
		fd, err = configure(o.Index, o)
		return o.Index, fd, err
	}
	for index := range 1 << 10 {
		if exists, err := known(index); err != nil || !exists {
			break
		}
		if _, err := Read(index); err == nil {
			continue
		}
		fd, err := configure(index, o)
		if errors.Is(err, ErrBusy) {
			continue
		}
		return index, fd, err
	}
	return -1, -1, fmt.Errorf("no free device: %w: load the module with more of them (nbds_max)", ErrBusy)
}

func configure(index int, o Options) (int, error) {
	fd, err := openNode(index, true)
	if err != nil {
		return -1, err
	}
	for i, s := range o.Sockets {
		if err := unix.IoctlSetInt(fd, setSock, s); err != nil {
			if i > 0 {
				_ = unix.IoctlSetInt(fd, clearSock, 0)
			}
			_ = unix.Close(fd)
			// EINVAL is how the kernel refuses what netlink connected.
			if _, connected := Read(index); errors.Is(err, unix.EBUSY) || connected == nil && i == 0 {
				err = fmt.Errorf("%w: %w", ErrBusy, err)
			}
			return -1, fmt.Errorf("%s: give it a socket: %w", Path(index), err)
		}
	}
	block := max(o.BlockSize, 512)
	for _, c := range []struct {
		what string
		req  uint
		arg  int
		skip bool
	}{
		{"block size", setBlockSize, block, false},
		{"size", setSizeBlocks, int(o.Size / int64(block)), false},
		{"flags", setFlags, int(o.Flags), false},
		{"timeout", setTimeout, int(seconds(o.Timeout)), o.Timeout <= 0},
	} {
		if c.skip {
			continue
		}
		if err := unix.IoctlSetInt(fd, c.req, c.arg); err != nil {
			_ = unix.IoctlSetInt(fd, clearSock, 0)
			_ = unix.Close(fd)
			return -1, fmt.Errorf("%s: set the %s: %w", Path(index), c.what, err)
		}
	}
	return fd, nil
}

func disconnectByIoctl(_ context.Context, index int) error {
	fd, err := openNode(index, false)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlSetInt(fd, disconnectNow, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
