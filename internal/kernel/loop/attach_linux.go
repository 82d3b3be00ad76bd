package loop

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Device is an attached device whose node this process holds open.
type Device struct {
	fd     int
	number int
}

// Attach makes a device of the open file. The kernel takes its own reference
// to the file.
func Attach(ctx context.Context, file int, o Options) (*Device, error) {
	d, err := attach(ctx, file, o)
	if err != nil {
		return nil, fmt.Errorf("attach a loop device: %w", err)
	}
	return d, nil
}

func attach(ctx context.Context, file int, o Options) (*Device, error) {
	if o.Number != AnyNumber {
		d, err := attachTo(o.Number, file, o)
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("%s is in use: choose another, or let one be found: %w", Path(o.Number), err)
		}
		return d, err
	}
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENXIO) {
			return nil, fmt.Errorf("/dev/loop-control: %w: no loop driver here (try modprobe loop): %w", err, errors.ErrUnsupported)
		}
		return nil, fmt.Errorf("/dev/loop-control: %w", err)
	}
	defer func() { _ = unix.Close(control) }()
	for try := range Attempts {
		var number int
		number, err = unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free number: %w", err)
		}
		d, e := attachTo(number, file, o)
		if err = e; err == nil {
			return d, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return nil, err
		}
		select {
		case <-time.After(time.Duration(try) * 5 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, fmt.Errorf("others took every free device %d times: %w", Attempts, err)
}

func attachTo(number, file int, o Options) (*Device, error) {
	fd, err := openNode(number, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	if err := configure(fd, file, o); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", Path(number), err)
	}
	if o.ReadAhead > 0 {
		_ = unix.IoctlSetInt(fd, unix.BLKRASET, o.ReadAhead/512) // it is only faster
	}
	return &Device{fd: fd, number: number}, nil
}

func openNode(number int, readOnly bool) (int, error) {
	flags := unix.O_RDWR
	if readOnly {
		flags = unix.O_RDONLY
	}
	path := Path(number)
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(Major, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("make the missing node %s: %w", path, err)
		}
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

func (o Options) info() unix.LoopInfo64 {
	var i unix.LoopInfo64
	for _, f := range []struct {
		on   bool
		flag uint32
	}{
		{o.ReadOnly, unix.LO_FLAGS_READ_ONLY},
		{o.AutoClear, unix.LO_FLAGS_AUTOCLEAR},
		{o.PartScan, unix.LO_FLAGS_PARTSCAN},
		{o.DirectIO, unix.LO_FLAGS_DIRECT_IO},
	} {
		if f.on {
			i.Flags |= f.flag
		}
	}
	copy(i.File_name[:NameLen], o.Name)
	return i
}

func configure(fd, file int, o Options) error {
	if o.twoSteps {
		return configureInSteps(fd, file, o)
	}
	c := unix.LoopConfig{Fd: uint32(file), Size: uint32(o.BlockSize), Info: o.info()}
	err := unix.IoctlLoopConfigure(fd, &c)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTTY) { // before Linux 5.8
		if steps := configureInSteps(fd, file, o); steps != nil {
			return fmt.Errorf("%w (in one step: %w)", steps, err)
		}
		return nil
	}
	return err
}

// configureInSteps sets what the old ioctls can: AUTOCLEAR and PARTSCAN by the
// status, direct I/O and the block size by their own, and READ_ONLY by the way
// the node was opened.
func configureInSteps(fd, file int, o Options) (err error) {
	if err := unix.IoctlSetInt(fd, unix.LOOP_SET_FD, file); err != nil {
		return fmt.Errorf("set the file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0)
		}
	}()
	if o.BlockSize != 0 {
		if err := unix.IoctlSetInt(fd, unix.LOOP_SET_BLOCK_SIZE, o.BlockSize); err != nil {
			return fmt.Errorf("set the block size: %w", err)
		}
	}
	if o.DirectIO {
		_ = unix.IoctlSetInt(fd, unix.LOOP_SET_DIRECT_IO, 1) // it is only faster
	}
	info := o.info()
	info.Flags &= unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_PARTSCAN
	if err := unix.IoctlLoopSetStatus64(fd, &info); err != nil {
		return fmt.Errorf("set the status: %w", err)
	}
	return nil
}

// Number is N of /dev/loopN.
func (d *Device) Number() int { return d.number }

// Path is the device's node.
func (d *Device) Path() string { return Path(d.number) }

// FD is the descriptor of the node; the device keeps owning it.
func (d *Device) FD() int { return d.fd }

// Status asks the kernel.
func (d *Device) Status() (Status, error) { return status(d.fd, d.number) }

// Close gives the node back. With AutoClear and no other user the device is
// free then.
func (d *Device) Close() error {
	if d.fd < 0 {
		return nil
	}
	fd := d.fd
	d.fd = -1
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close %s: %w", d.Path(), err)
	}
	return nil
}

// Detach closes the device, clears it and waits until it is free. With a user
// elsewhere it is a *BusyError after the context's end; the kernel frees the
// device when that user closes it.
func (d *Device) Detach(ctx context.Context, was Status) error {
	clr := unix.IoctlSetInt(d.fd, unix.LOOP_CLR_FD, 0)
	if err := d.Close(); err != nil {
		return err
	}
	if clr != nil && !errors.Is(clr, unix.ENXIO) {
		return fmt.Errorf("clear %s: %w", d.Path(), clr)
	}
	return waitFree(ctx, d.number, was)
}
